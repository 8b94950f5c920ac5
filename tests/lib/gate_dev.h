/*
 * tests/lib/gate_dev.h - a disk whose reads, writes and flushes wait until the test lets them pass;
 * then one at a time, so that what the test writes from several threads is no data race in RAM.
 */
#ifndef TESTS_GATE_DEV_H
#define TESTS_GATE_DEV_H

#include <pthread.h>
#include <stdbool.h>

#include "imaging/dev.h"

struct gate_dev {
	struct img_dev dev; /* first */
	struct img_dev *lower;
	pthread_mutex_t lock, transfer;
	pthread_cond_t changed;
	bool open;
	unsigned waiting, calls, flushes;
};

/* @lower is borrowed. */
void gate_dev_init(struct gate_dev *g, struct img_dev *lower, bool open);
void gate_dev_fini(struct gate_dev *g);
void gate_dev_set(struct gate_dev *g, bool open);
/* Returns when exactly @waiting requests stand at the gate. */
void gate_dev_wait(struct gate_dev *g, unsigned waiting);

#endif
