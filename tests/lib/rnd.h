/* tests/lib/rnd.h - seeded randomness for tests: splitmix64, the whole state is one number. */
#ifndef TESTS_RND_H
#define TESTS_RND_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t rnd_u64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* 0 <= result < @n; n > 0. */
static inline uint64_t rnd_below(uint64_t *state, uint64_t n)
{
	return rnd_u64(state) % n;
}

static inline void rnd_fill(uint64_t *state, void *p, size_t len)
{
	uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)rnd_u64(state);
}

#endif
