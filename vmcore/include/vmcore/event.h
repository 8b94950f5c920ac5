/*
 * vmcore/event.h - what a machine tells its owner.
 *
 * A guest's misbehaviour is an event, never an error of a call and never the end of the process.
 */
#ifndef VMCORE_EVENT_H
#define VMCORE_EVENT_H

#include <stdint.h>

enum vm_event_type {
	VM_EVENT_SERIAL, /* bytes of the first serial port: .bytes, .len */
	VM_EVENT_DEBUG,  /* bytes of the firmware's debug port (0x402) */
	/* The guest asked for a reset, which follows (vm_cfg.reset_stops: the machine is off).
	 * .code: by which port (0x64, 0x92, 0xcf9); 0: a triple fault. */
	VM_EVENT_RESET,
	VM_EVENT_POWEROFF, /* the guest switched itself off */
	VM_EVENT_FAULT,    /* the guest cannot go on: .text says what, .rip where. It is stopped. */
	VM_EVENT_PAGER_LOST, /* a lazily restored page cannot be had: .text. It is stopped. */
	VM_EVENT_PORT, /* bytes of the agent port (virtio-console port 1, org.lifeboat.heartbeat) */
	VM_EVENT_DISK, /* I/O error of a disk: .text; the guest saw it too */
};

struct vm_event {
	enum vm_event_type type;
	const uint8_t *bytes; /* borrowed during the call */
	uint32_t len;
	int code;         /* RESET; DISK: the lb_code */
	uint64_t rip;     /* FAULT, RESET by a triple fault: where the guest was; else 0 */
	const char *text; /* borrowed; may be NULL */
};

#endif
