#include "gate_dev.h"

#include "base/err.h"

static struct gate_dev *pass(struct img_dev *d)
{
	struct gate_dev *g = (struct gate_dev *)d;

	(void)pthread_mutex_lock(&g->lock);
	g->calls++;
	g->waiting++;
	(void)pthread_cond_broadcast(&g->changed);
	while (!g->open)
		(void)pthread_cond_wait(&g->changed, &g->lock);
	g->waiting--;
	(void)pthread_mutex_unlock(&g->lock);
	return g;
}

static int gate_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct gate_dev *g = pass(d);
	int rc;

	(void)pthread_mutex_lock(&g->transfer);
	rc = img_pread(g->lower, buf, len, off, err);
	(void)pthread_mutex_unlock(&g->transfer);
	return rc;
}

static int gate_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		       struct lb_err *err)
{
	struct gate_dev *g = pass(d);
	int rc;

	(void)pthread_mutex_lock(&g->transfer);
	rc = img_pwrite(g->lower, buf, len, off, err);
	(void)pthread_mutex_unlock(&g->transfer);
	return rc;
}

static int gate_flush(struct img_dev *d, struct lb_err *err)
{
	struct gate_dev *g = pass(d);

	(void)pthread_mutex_lock(&g->lock);
	g->flushes++;
	(void)pthread_mutex_unlock(&g->lock);
	return img_flush(g->lower, err);
}

static void gate_destroy(struct img_dev *d)
{
	(void)d;
}

void gate_dev_init(struct gate_dev *g, struct img_dev *lower, bool open)
{
	static const struct img_dev_ops ops = {
		.name = "gate",
		.pread = gate_pread,
		.pwrite = gate_pwrite,
		.flush = gate_flush,
		.destroy = gate_destroy,
	};

	*g = (struct gate_dev){.lower = lower, .open = open};
	g->dev = (struct img_dev){.ops = &ops, .size_bytes = lower->size_bytes};
	(void)pthread_mutex_init(&g->lock, NULL);
	(void)pthread_mutex_init(&g->transfer, NULL);
	(void)pthread_cond_init(&g->changed, NULL);
}

void gate_dev_fini(struct gate_dev *g)
{
	(void)pthread_cond_destroy(&g->changed);
	(void)pthread_mutex_destroy(&g->lock);
	(void)pthread_mutex_destroy(&g->transfer);
}

void gate_dev_set(struct gate_dev *g, bool open)
{
	(void)pthread_mutex_lock(&g->lock);
	g->open = open;
	(void)pthread_cond_broadcast(&g->changed);
	(void)pthread_mutex_unlock(&g->lock);
}

void gate_dev_wait(struct gate_dev *g, unsigned waiting)
{
	(void)pthread_mutex_lock(&g->lock);
	while (g->waiting != waiting)
		(void)pthread_cond_wait(&g->changed, &g->lock);
	(void)pthread_mutex_unlock(&g->lock);
}
