/*
 * tests/lib/net_sink.h - what comes out of a network backend, kept for a test, and waited for.
 */
#ifndef TESTS_NET_SINK_H
#define TESTS_NET_SINK_H

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "vmcore/net.h"

enum {
	SINK_FRAMES = 64,
	SINK_BYTES = 256
};

struct net_sink {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned count;
	size_t len[SINK_FRAMES];
	uint8_t frame[SINK_FRAMES][SINK_BYTES]; /* their first bytes */
};

static inline void net_sink_receive(void *arg, const void *frame, size_t len)
{
	struct net_sink *s = arg;

	(void)pthread_mutex_lock(&s->lock);
	if (s->count < SINK_FRAMES) {
		s->len[s->count] = len;
		memcpy(s->frame[s->count], frame, len < SINK_BYTES ? len : SINK_BYTES);
		s->count++;
	}
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}

static inline void net_sink_init(struct net_sink *s)
{
	memset(s, 0, sizeof(*s));
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->changed, NULL);
}

static inline void net_sink_fini(struct net_sink *s)
{
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->lock);
}

/* Returns when @count frames came. */
static inline void net_sink_wait(struct net_sink *s, unsigned count)
{
	(void)pthread_mutex_lock(&s->lock);
	while (s->count < count)
		(void)pthread_cond_wait(&s->changed, &s->lock);
	(void)pthread_mutex_unlock(&s->lock);
}

/* An Ethernet frame of @len bytes from station @from to station @to (0xff: all). */
static inline void net_sink_frame(uint8_t *f, size_t len, uint8_t to, uint8_t from, uint8_t fill)
{
	static const uint8_t oui[5] = {0x52, 0x54, 0, 0, 0};

	memset(f, fill, len);
	if (to == 0xff)
		memset(f, 0xff, 6);
	else
		memcpy(f, oui, 5);
	f[5] = to;
	memcpy(f + 6, oui, 5);
	f[11] = from;
}

#endif
