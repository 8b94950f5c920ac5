/*
 * vmcore/src/legacy.h - the small devices of pc1 that have no handle. Each lives as long as the
 * board.
 */
#ifndef VMCORE_LEGACY_H
#define VMCORE_LEGACY_H

struct lb_err;
struct vm_board;

/* Port 0x402, where SeaBIOS logs: VM_EVENT_DEBUG. Reads 0xe9. */
int vm_dbgport_create(struct vm_board *b, struct lb_err *err);
/* Ports 0x92 (A20, fast reset), 0xcf9 (reset control) and 0x80 (POST code): a reset is
 * VM_EVENT_RESET with the port as its code. A20 is always open. Port 0x61 and the speaker are the
 * in-kernel PIT's (KVM_PIT_SPEAKER_DUMMY). */
int vm_sysport_create(struct vm_board *b, struct lb_err *err);
/* Keyboard controller at 0x60 and 0x64, IRQ 1: a keyboard that answers its commands and is never
 * typed on, no mouse, the reset pulse (VM_EVENT_RESET, code 0x64). */
int vm_i8042_create(struct vm_board *b, struct lb_err *err);

#endif
