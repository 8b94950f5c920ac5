#include "vmcore/net.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "net_int.h"

#define RARP_BYTES    60u /* the shortest frame there is on Ethernet, without its checksum */
#define ETH_TYPE_RARP 0x8035u
#define RARP_REVERSE  3u

void vm_net_init(struct vm_net *n, const struct vm_net_ops *ops, struct vm_net *lower)
{
	n->ops = ops;
	n->lower = lower;
	(void)pthread_mutex_init(&n->receiving, NULL);
	(void)pthread_mutex_init(&n->rooming, NULL);
}

void vm_net_fini(struct vm_net *n)
{
	(void)pthread_mutex_destroy(&n->receiving);
	(void)pthread_mutex_destroy(&n->rooming);
}

void vm_net_destroy(struct vm_net *n)
{
	if (n != NULL)
		n->ops->destroy(n);
}

void vm_net_connect(struct vm_net *n, vm_net_receive_fn receive, void *arg)
{
	while (n->lower != NULL)
		n = n->lower;
	(void)pthread_mutex_lock(&n->receiving);
	n->receive = receive;
	n->receive_arg = arg;
	(void)pthread_mutex_unlock(&n->receiving);
}

void vm_net_deliver(struct vm_net *n, const void *frame, size_t len)
{
	(void)pthread_mutex_lock(&n->receiving);
	if (n->receive != NULL)
		n->receive(n->receive_arg, frame, len);
	(void)pthread_mutex_unlock(&n->receiving);
}

bool vm_net_send(struct vm_net *n, const void *frame, size_t len)
{
	return n->ops->send(n, frame, len);
}

uint64_t vm_net_held_bytes(struct vm_net *n)
{
	return n->ops->held_bytes != NULL ? n->ops->held_bytes(n) : 0;
}

void vm_net_on_room(struct vm_net *n, void (*on_room)(void *arg), void *arg)
{
	(void)pthread_mutex_lock(&n->rooming);
	n->on_room = on_room;
	n->room_arg = arg;
	(void)pthread_mutex_unlock(&n->rooming);
}

void vm_net_room(struct vm_net *n)
{
	(void)pthread_mutex_lock(&n->rooming);
	if (n->on_room != NULL)
		n->on_room(n->room_arg);
	(void)pthread_mutex_unlock(&n->rooming);
}

/* Not the guest's output: it says where the machine is, so it waits for no receipt. */
void vm_net_announce(struct vm_net *n, const uint8_t mac[6])
{
	static const uint8_t head[8] = {
		0, 1, 8, 0, 6, 4, 0, RARP_REVERSE}; /* Ethernet, IPv4, their address lengths */
	uint8_t f[RARP_BYTES] = {0};

	while (n->lower != NULL)
		n = n->lower;
	memset(f, 0xff, 6);
	memcpy(f + 6, mac, 6);
	f[12] = ETH_TYPE_RARP >> 8;
	f[13] = ETH_TYPE_RARP & 0xff;
	memcpy(f + 14, head, sizeof(head));
	memcpy(f + 22, mac, 6); /* sender */
	memcpy(f + 32, mac, 6); /* target */
	(void)vm_net_send(n, f, sizeof(f));
}

/* ---- nowhere ---- */

static bool null_send(struct vm_net *n, const void *frame, size_t len)
{
	(void)n;
	(void)frame;
	(void)len;
	return true;
}

static void null_destroy(struct vm_net *n)
{
	vm_net_fini(n);
	free(n);
}

int vm_net_null(struct vm_net **out, struct lb_err *err)
{
	static const struct vm_net_ops ops = {.send = null_send, .destroy = null_destroy};
	struct vm_net *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "network backend");
	vm_net_init(n, &ops, NULL);
	*out = n;
	return 0;
}
