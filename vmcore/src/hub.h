/*
 * vmcore/src/hub.h - where a machine's own threads leave what it says, for the thread that serves
 * its clients: serial output, agent port bytes, events. Nobody who adds ever waits: what is not
 * fetched in time is overwritten, and whoever was too slow learns how much it lost.
 *
 * Thread: any.
 */
#ifndef VMCORE_HUB_H
#define VMCORE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmcore/ctl.h"
#include "vmcore/event.h"

struct vm_hub;

enum {
	VM_HUB_EVENTS = 64,
	VM_HUB_PORT_BYTES = 16 << 10
};
enum vm_hub_stream {
	VM_HUB_SERIAL, /* keeps VM_CTL_REPLAY_BYTES */
	VM_HUB_PORT,   /* keeps VM_HUB_PORT_BYTES */
};

/* @kick_fd (an eventfd, borrowed) is written to when there is something new. */
int vm_hub_create(struct vm_hub **out, int kick_fd, struct lb_err *err);
void vm_hub_destroy(struct vm_hub *h);
/* For vm_cfg.on_event, @arg is the hub. */
void vm_hub_on_event(void *arg, const struct vm_event *e);
void vm_hub_kick(struct vm_hub *h);

uint64_t vm_hub_end(struct vm_hub *h, enum vm_hub_stream s); /* bytes there ever were */
/* Bytes from position *at on, at most @cap; *at moves past them. *lost: bytes between the old *at
 * and the first one returned that are gone. */
size_t vm_hub_read(struct vm_hub *h, enum vm_hub_stream which, uint64_t *at, void *out, size_t cap,
		   uint64_t *lost);
uint64_t vm_hub_events(struct vm_hub *h); /* how many there ever were */
/* Event number *at or the oldest one kept after it; *at becomes the next one's. False: none. */
bool vm_hub_event(struct vm_hub *h, uint64_t *at, struct vm_ctl_event *out);

#endif
