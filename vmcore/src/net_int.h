/*
 * vmcore/src/net_int.h - what is common to the network backends.
 *
 * Locks: .receiving is held while frames are handed to the card, which takes its board's lock; a
 * card sends with that lock held. So nothing that sends may wait for .receiving, and frames from
 * one card to another change threads in between (net_switch.c).
 */
#ifndef VMCORE_NET_INT_H
#define VMCORE_NET_INT_H

#include <pthread.h>

#include "vmcore/net.h"

struct vm_net_ops {
	bool (*send)(struct vm_net *n, const void *frame, size_t len); /* any thread, never waits */
	uint64_t (*held_bytes)(struct vm_net *n);                      /* NULL: none ever are */
	void (*destroy)(struct vm_net *n);
};

struct vm_net {
	const struct vm_net_ops *ops;
	struct vm_net *lower; /* of a stacked one, borrowed: receives for it */
	pthread_mutex_t receiving;
	vm_net_receive_fn receive;
	void *receive_arg;
	pthread_mutex_t rooming;
	void (*on_room)(void *arg);
	void *room_arg;
};

void vm_net_init(struct vm_net *n, const struct vm_net_ops *ops, struct vm_net *lower);
void vm_net_fini(struct vm_net *n);
/* A frame came in: to the card, if there is one. The board's lock not held. */
void vm_net_deliver(struct vm_net *n, const void *frame, size_t len);
/* There is room again. The board's lock not held. */
void vm_net_room(struct vm_net *n);

#endif
