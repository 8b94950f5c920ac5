#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "virtio.h"
#include "virtio_pci.h"
#include "vmcore/net.h"

/*
 * Frames begin with a header of 10 bytes, or of 12 with mergeable buffers or VIRTIO 1. [VIRTIO 1.2,
 * 5.1.6] No offload is offered, so of the header only the number of buffers ever says anything.
 *
 * Sending: a frame the backend has no room for (COMMIT) stays in the queue, which stands until the
 * backend calls; nothing else is kept, so there is nothing to save. Receiving: a frame the driver
 * has no buffers for is dropped, as a card does.
 */

#define QUEUE_SIZE   256u
#define RX           0u
#define TX           1u
#define HEADER_SHORT 10u
#define HEADER_LONG  12u
#define BUFFERS_AT   10u
#define MERGE_MAX    64u /* buffers for one frame; a driver's smallest is 1.5 KiB */
#define LINK_UP      1u

#define F_MAC       (UINT64_C(1) << 5)
#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_STATUS    (UINT64_C(1) << 16)

struct virtio_net {
	struct vm_virtio v; /* first */
	struct vm_net *net; /* borrowed */
	bool blocked;       /* the backend said no; it calls */
	struct vm_chain chain, first;
	uint8_t frame[HEADER_LONG + VM_FRAME_MAX];
};

static struct virtio_net *nic_of(struct vm_virtio *v)
{
	return (struct virtio_net *)v;
}

static uint64_t header_bytes(const struct virtio_net *d)
{
	return vm_virtio_has(&d->v, F_MRG_RXBUF | VM_VIRTIO_F_VERSION_1) ? HEADER_LONG
									 : HEADER_SHORT;
}

/* ---- sending ---- */

/* False: the backend has no room. Frames too long for any wire, and what memory lost, are taken and
 * dropped. */
static bool send_chain(struct virtio_net *d)
{
	uint64_t header = header_bytes(d), len = d->chain.out_bytes - header;

	if (len == 0 || len > VM_FRAME_MAX ||
	    vm_chain_read(d->v.pci.dev.board->mem, &d->chain, header, d->frame, len) != len)
		return true;
	return vm_net_send(d->net, d->frame, len);
}

static void transmit(struct virtio_net *d)
{
	struct vm_virtq *q = &d->v.queue[TX];

	while (!d->blocked && vm_virtq_pop(q, &d->chain)) {
		if (d->chain.out_bytes < header_bytes(d)) {
			vm_virtio_break(&d->v, TX);
			return;
		}
		if (!send_chain(d)) {
			vm_virtq_unpop(q, 1);
			d->blocked = true;
			return;
		}
		vm_virtio_complete(&d->v, TX, d->chain.head, 0);
	}
}

static void on_room(void *arg)
{
	struct virtio_net *d = arg;
	struct vm_board *b = d->v.pci.dev.board;

	vm_board_lock(b);
	d->blocked = false;
	if (vm_virtio_is_live(&d->v))
		transmit(d);
	vm_board_unlock(b);
}

/* ---- receiving ---- */

/* Into @c, from its byte @skip on; returns how much of the frame it took. */
static uint64_t fill(struct virtio_net *d, const struct vm_chain *c, uint64_t skip,
		     const uint8_t *frame, uint64_t len)
{
	return vm_chain_write(d->v.pci.dev.board->mem, c, skip, frame, len);
}

/* The frame over as many buffers as it takes; returns how many, 0: there were too few. The header
 * is written last, when the number is known; the driver sees nothing before publish. */
static uint16_t receive_merged(struct virtio_net *d, const uint8_t *frame, uint64_t len)
{
	struct vm_virtq *q = &d->v.queue[RX];
	uint8_t header[HEADER_LONG] = {0};
	uint64_t done = 0;
	uint16_t n = 0;

	while (n < MERGE_MAX && vm_virtq_pop(q, n == 0 ? &d->first : &d->chain)) {
		const struct vm_chain *c = n == 0 ? &d->first : &d->chain;
		uint64_t skip = n == 0 ? HEADER_LONG : 0, took;

		if (c->in_bytes < skip) {
			vm_virtio_break(&d->v, RX);
			return 0;
		}
		took = fill(d, c, skip, frame + done, len - done);
		vm_virtq_put(q, n++, c->head, (uint32_t)(skip + took));
		done += took;
		if (done == len)
			break;
	}
	if (done < len) {
		vm_virtq_unpop(q, n);
		return 0;
	}
	header[BUFFERS_AT] = (uint8_t)n;
	(void)fill(d, &d->first, 0, header, sizeof(header));
	return n;
}

static uint16_t receive_single(struct virtio_net *d, const uint8_t *frame, uint64_t len)
{
	static const uint8_t header[HEADER_LONG] = {[BUFFERS_AT] = 1};
	struct vm_virtq *q = &d->v.queue[RX];
	uint64_t skip = header_bytes(d);

	if (!vm_virtq_pop(q, &d->first))
		return 0;
	if (d->first.in_bytes < skip + len) {
		vm_virtq_unpop(q, 1);
		return 0;
	}
	(void)fill(d, &d->first, 0, header, skip);
	(void)fill(d, &d->first, skip, frame, len);
	vm_virtq_put(q, 0, d->first.head, (uint32_t)(skip + len));
	return 1;
}

static void on_frame(void *arg, const void *frame, size_t len)
{
	struct virtio_net *d = arg;
	struct vm_board *b = d->v.pci.dev.board;
	uint16_t n = 0;

	vm_board_lock(b);
	if (vm_virtio_is_live(&d->v) && len <= VM_FRAME_MAX)
		n = vm_virtio_has(&d->v, F_MRG_RXBUF) ? receive_merged(d, frame, len)
						      : receive_single(d, frame, len);
	if (n != 0) {
		vm_virtq_publish(&d->v.queue[RX], n);
		vm_virtio_used(&d->v, RX);
	}
	vm_board_unlock(b);
}

/* ---- the device ---- */

static void net_notify(struct vm_virtio *v, unsigned queue)
{
	if (queue == TX)
		transmit(nic_of(v));
}

static void net_reset(struct vm_virtio *v)
{
	nic_of(v)->blocked = false;
}

static void net_destroy(struct vm_virtio *v)
{
	struct virtio_net *d = nic_of(v);

	vm_net_connect(d->net, NULL, NULL);
	vm_net_on_room(d->net, NULL, NULL);
	free(d);
}

static const struct vm_virtio_ops net_ops = {
	.notify = net_notify,
	.reset = net_reset,
	.destroy = net_destroy,
};
static const struct vm_dev_ops net_dev_ops = {
	.name = "virtio-net",
	.version = 1,
	.reset = vm_virtio_dev_reset,
	.save = vm_virtio_dev_save,
	.load = vm_virtio_dev_load,
	.resume = vm_virtio_dev_resume,
	.destroy = vm_virtio_dev_destroy,
};

int vm_virtio_net_create(struct vm_board *b, struct vm_pci *pci, const uint8_t mac[6],
			 struct vm_net *net, struct lb_err *err)
{
	struct virtio_net *d = calloc(1, sizeof(*d));
	int rc;

	if (d == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "virtio network card");
	d->net = net;
	d->v.ops = &net_ops;
	d->v.type = VM_VIRTIO_NET;
	d->v.features = F_MAC | F_MRG_RXBUF | F_STATUS;
	d->v.queue_count = 2;
	d->v.queue[RX].size_max = d->v.queue[TX].size_max = QUEUE_SIZE;
	/* struct virtio_net_config [5.1.4] */
	memcpy(d->v.config, mac, 6);
	d->v.config[6] = LINK_UP;
	d->v.config_bytes = 8;
	rc = vm_virtio_add(&d->v, b, pci, &net_dev_ops, err);
	if (rc != 0) {
		free(d);
		return rc;
	}
	vm_net_on_room(net, on_room, d);
	vm_net_connect(net, on_frame, d);
	return 0;
}
