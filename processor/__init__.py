"""The processor: folds submissions into one row per entity, and loses none of them.

Faust as its guide shows it loses data on an ordinary restart. Eight rules together keep it from
that; each has one place:

1. flush, then settle, acknowledge  batch.py, table.py, agent.py
2. nothing escapes the batch        agent.py
3. hold until the seek is done      ownership.py, consumer.py
4. check for holes                  holes.py
5. drop foreign events              ownership.py
6. a store that loads itself        store.py
7. fence zombies                    lease.py, heartbeat.py, repair.py
8. static membership, short waits   app.py
"""
