#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "virtio.h"
#include "virtio_pci.h"

/* Randomness of the host's kernel. [VIRTIO 1.2, 5.4] A restored machine must not hand out again
 * what it handed out before: nothing is kept, so nothing is saved. */

#define QUEUE_SIZE   64u
#define ANSWER_BYTES 256u /* at most, a request; drivers ask again */

static void rng_notify(struct vm_virtio *v, unsigned queue)
{
	struct vm_board *b = v->pci.dev.board;
	uint8_t bytes[ANSWER_BYTES];
	struct vm_chain c;

	while (vm_virtq_pop(&v->queue[queue], &c)) {
		uint64_t n = c.in_bytes < sizeof(bytes) ? c.in_bytes : sizeof(bytes);

		b->env->random(b->env, bytes, n);
		n = vm_chain_write(b->mem, &c, 0, bytes, n);
		vm_virtio_complete(v, queue, c.head, (uint32_t)n);
	}
}

static void rng_reset(struct vm_virtio *v)
{
	(void)v; /* no chain is ever kept */
}

static void rng_destroy(struct vm_virtio *v)
{
	free(v);
}

static const struct vm_virtio_ops rng_ops = {
	.notify = rng_notify,
	.reset = rng_reset,
	.destroy = rng_destroy,
};
static const struct vm_dev_ops rng_dev_ops = {
	.name = "virtio-rng",
	.version = 1,
	.reset = vm_virtio_dev_reset,
	.save = vm_virtio_dev_save,
	.load = vm_virtio_dev_load,
	.resume = vm_virtio_dev_resume,
	.destroy = vm_virtio_dev_destroy,
};

int vm_virtio_rng_create(struct vm_board *b, struct vm_pci *pci, struct lb_err *err)
{
	struct vm_virtio *v = calloc(1, sizeof(*v));
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "virtio entropy source");
	v->ops = &rng_ops;
	v->type = VM_VIRTIO_RNG;
	v->queue_count = 1;
	v->queue[0].size_max = QUEUE_SIZE;
	rc = vm_virtio_add(v, b, pci, &rng_dev_ops, err);
	if (rc != 0)
		free(v);
	return rc;
}
