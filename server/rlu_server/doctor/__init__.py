"""`rlu doctor`: what is wrong with a deployment, why, and what to do.

`words` has every code in words, `explaining` looks one up. `seen` are values that were observed; the modules `judge_…` make findings
of them without another look, and `look_…` observe: files, sockets, the API server. `bundle` packs what support may see.
"""
