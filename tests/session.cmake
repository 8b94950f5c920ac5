# The pure cores of shipping and accepting: tables of events and actions.
lb_test(unit.sender unit/test_sender.c DEPS replicator)
lb_test(unit.receiver unit/test_receiver.c DEPS replicator)
