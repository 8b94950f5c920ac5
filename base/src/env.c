#include "base/env.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	LB_ASSERT(clock_gettime(id, &ts) == 0);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t real_now_ns(struct lb_env *env)
{
	(void)env;
	return read_clock(CLOCK_BOOTTIME);
}

static uint64_t real_wall_ns(struct lb_env *env)
{
	(void)env;
	return read_clock(CLOCK_REALTIME);
}

static void real_random(struct lb_env *env, void *p, size_t len)
{
	uint8_t *b = p;

	(void)env;
	while (len > 0) {
		ssize_t n = getrandom(b, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		LB_ASSERT(n > 0);
		b += n;
		len -= (size_t)n;
	}
}

struct lb_env *lb_env_real(void)
{
	/* Never written: not const only because a simulated environment has state. */
	static struct lb_env real = {
		.now_ns = real_now_ns,
		.wall_ns = real_wall_ns,
		.random = real_random,
	};

	return &real;
}

uint64_t lb_env_random_u64(struct lb_env *env)
{
	uint64_t v;

	env->random(env, &v, sizeof(v));
	return v;
}
