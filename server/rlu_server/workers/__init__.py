"""Several processes that serve one port as one gateway.

```
master ─┬─▶ hub       sessions, numbers, records, limits, kept answers, our own routes; the attestor's connection
        ├─▶ worker 0  clients' connections, TLS, HTTP, hashing, the engines' connections
        └─▶ worker 1
```

All are forks of one process, so they have one lock, one TLS key and one salt secret, which never leave memory. A worker asks the hub over
a socket pair (`frames`); what all of one loop's turn had to say leaves in one frame. A worker that dies is replaced, and the hub records
what it left open. If the hub dies, so do all, and the supervisor starts again.
"""
