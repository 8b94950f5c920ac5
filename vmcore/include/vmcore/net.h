/*
 * vmcore/net.h - where a machine's network cards lead: a tap, an isolated switch, nowhere.
 *
 *   card ─ send ─► [hold: COMMIT only] ─► backend          backend's thread ─ receive ─► card
 *
 * Output of a protected machine is ASYNC (sent at once) or COMMIT: frames wait in the hold, in
 * order, until the receipt of the first cut taken after them is in, so nobody outside ever sees an
 * effect of a state that could be lost. [Remus, NSDI 2008, section 3.3] The hold is bounded in
 * bytes; when it is full the card's queue stops being served (back-pressure), nothing is dropped.
 *
 * Thread: send and hold calls: any; receive comes on the backend's thread and may not block long.
 */
#ifndef VMCORE_NET_H
#define VMCORE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct vm_net;
struct vm_switch;

enum {
	VM_FRAME_MAX = 65550
};

typedef void (*vm_net_receive_fn)(void *arg, const void *frame, size_t len);

/* A tap device handed in as descriptor @fd (taken on success). */
int vm_net_tap(struct vm_net **out, int fd, struct lb_err *err);
/* A switch in this process that leads nowhere else (drills, tests): learns addresses, floods
 * unknown ones, at most 32 ports. Its ports are destroyed before it. */
int vm_switch_create(struct vm_switch **out, struct lb_err *err);
void vm_switch_destroy(struct vm_switch *s);
int vm_net_switch(struct vm_net **out, struct vm_switch *s, struct lb_err *err);
/* Sends to nobody. */
int vm_net_null(struct vm_net **out, struct lb_err *err);
/* COMMIT in front of @lower (borrowed): at most @max_bytes wait. */
int vm_net_hold(struct vm_net **out, struct vm_net *lower, uint64_t max_bytes, struct lb_err *err);
/* Cut @seq was taken: what was sent before belongs to it. Then its receipt came: let it go. */
void vm_net_hold_cut(struct vm_net *hold, uint64_t seq);
void vm_net_hold_ack(struct vm_net *hold, uint64_t seq);
/* Bytes that wait for a receipt; of a backend that holds nothing: 0. */
uint64_t vm_net_held_bytes(struct vm_net *n);
void vm_net_destroy(struct vm_net *n); /* NULL is allowed */

/* For the card: frames come to @receive until it is set to NULL (which waits for a running call).
 */
void vm_net_connect(struct vm_net *n, vm_net_receive_fn receive, void *arg);
/* False: no room now (hold); @on_room, given to vm_net_on_room(), is called once there is. */
bool vm_net_send(struct vm_net *n, const void *frame, size_t len);
void vm_net_on_room(struct vm_net *n, void (*on_room)(void *arg), void *arg);
/* After a failover: announce the card's address (RARP, RFC 903) so that switches learn its place.
 */
void vm_net_announce(struct vm_net *n, const uint8_t mac[6]);

#endif
