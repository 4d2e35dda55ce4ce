"""What each tenant may use: limits from a file, reserved before a request and settled after it. Pure; time is an argument.

- `rules`: the file, and what it says about one tenant and one principal.
- `bucket`: so much a minute.
- `accounts`: what is in use, by tenant and principal.
- `extent`: how long and how many answers a request asks for.
- `spending`: tokens of a request, before and after.
- `headers`: how much is left, in the words that each API's SDKs know.
"""
