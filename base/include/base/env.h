/*
 * base/env.h - everything a core may ask of the outside world: clock, random, disk.
 *
 * Network and processes are reached through actions that a core returns to its shell, never
 * through a call. There are two environments: the real one (lb_env_real) and the simulated one
 * (tests/sim), so a test decides what time it is, what is random, and when the power fails.
 */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include <stddef.h>
#include <stdint.h>

struct lb_err;
struct lb_fs;

struct lb_env {
	/* CLOCK_BOOTTIME in ns: counts while suspended, never steps. The only clock for decisions.
	 */
	uint64_t (*now_ns)(struct lb_env *env);
	/* CLOCK_REALTIME in ns since 1970: for people and manifests, never for decisions. */
	uint64_t (*wall_ns)(struct lb_env *env);
	/* Fill @p with cryptographic randomness; cannot fail (the real one aborts if the kernel
	 * does). */
	void (*random)(struct lb_env *env, void *p, size_t len);
};

/* The process-wide real environment (stateless). */
struct lb_env *lb_env_real(void);

uint64_t lb_env_random_u64(struct lb_env *env);

#endif
