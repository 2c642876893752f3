"""The processor: reduces submissions to one row per entity without losing any.

A Faust application written as in Faust's guide loses data on an ordinary restart. Eight rules
prevent this:

1. flush, commit, then acknowledge       core/write_batch.py, table/state_table.py, runtime/agent.py
2. any failed batch ends the process     runtime/agent.py
3. stop the flow until after the seek    runtime/assignment.py, faust_compat/consumer.py
4. check for offset gaps                 source/gap_check.py, source/gap_skipper.py
5. drop events of older generations      runtime/assignment.py
6. load the state without Faust          table/store.py
7. fence zombies                         membership/, changelog/repair.py
8. static membership, short timeouts     runtime/faust_app.py, membership/leave_group.py
"""
