"""One file per arrow of the data flow: load, decide, apply.

receive_commit   push accepted            -> commit recorded, build wanted or problem shown
dispatch_build   build wanted             -> order handed to a worker
record_build     report of a worker       -> revision recorded, or its failure shown
start_replica    revision, admitted       -> replica starting
follow_replica   what the runtime saw     -> replica ready and routed, failed, or lost
visit            request held             -> wake asked for, or why not
fall_asleep      idle                     -> drained, withdrawn, stopped
life             the owner's orders: pause, restart, sleep time, variables, delete
create_space     name                     -> Space with a repository
status           what a waiting person is told
collect_garbage  what nothing refers to   -> removed
tell             what several of them do after a change
"""
