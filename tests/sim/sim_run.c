/* One run: build both sites from the seed, let time pass with faults, then without, then check. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fs.h"
#include "memfs.h"
#include "rnd.h"
#include "sim.h"

#define MAX_EVENTS  UINT64_C(3000000) /* of one run: more is a loop */
#define CONVERGE_NS (300 * SEC)

static void make_key(struct sim *s, unsigned side)
{
	uint8_t seed[32];

	rnd_fill(&s->rnd, seed, sizeof(seed));
	LB_ASSERT(lb_signer_from_seed(&s->signer[side], seed, NULL) == 0);
	lb_signer_pubkey(s->signer[side], &s->pub[side]);
}

static void set_up(struct sim *s, const struct sim_opts *o)
{
	s->seed = s->rnd = o->seed;
	s->verbose = o->verbose;
	s->want_cuts = o->cuts;
	s->want_faults = o->faults;
	s->now = SEC;
	s->deployment = sim_id(s);
	s->group = sim_id(s);
	s->site[0] = sim_id(s);
	s->site[1] = sim_id(s);
	s->machine = sim_id(s);
	make_key(s, 0);
	make_key(s, 1);
	rnd_fill(&s->rnd, s->dek.b, sizeof(s->dek.b));
	for (unsigned v = 0; v < SIM_VOLUMES; v++) {
		s->volume[v] = sim_id(s);
		s->blocks[v] = 32 + (uint32_t)sim_below(s, SIM_MAX_BLOCKS - 31);
	}
	s->pack_blocks = 1 + (uint32_t)sim_below(s, 8);
	s->window_bytes = 2000 + sim_below(s, 40000);
	s->latency_ns = MS / 10 + sim_below(s, 30 * MS);
	s->jitter_ns = sim_below(s, 20 * MS);
	s->ns_per_byte = sim_below(s, 400);
	sim_env_init(&s->src.env, s, sim_below(s, UINT64_MAX));
	sim_env_init(&s->tgt.env, s, sim_below(s, UINT64_MAX));
	s->src.epoch = 1;
	LB_ASSERT(lb_memfs_create(&s->src.fs, sim_below(s, UINT64_MAX), NULL) == 0);
	LB_ASSERT(lb_memfs_create(&s->tgt.fs, sim_below(s, UINT64_MAX), NULL) == 0);
	target_start(s);
	source_start(s);
	sim_at(s, 2 * SEC, (struct sim_event){.type = EV_FAULT});
}

static void dispatch(struct sim *s, struct sim_event *e)
{
	switch (e->type) {
	case EV_CONNECT:
	case EV_CONNECTED:
	case EV_FRAME:
	case EV_CLOSED:
		net_event(s, e);
		break;
	case EV_SOURCE_TICK:
	case EV_CUT:
	case EV_GIVE:
	case EV_SOURCE_START:
	case EV_GIVE_BACK:
		source_event(s, e);
		break;
	case EV_TARGET_TICK:
	case EV_STORE:
	case EV_TARGET_START:
	case EV_FAILOVER:
		target_event(s, e);
		break;
	case EV_FAULT:
	case EV_SPACE_BACK:
	case EV_FAST_AGAIN:
	case EV_GHOST_GONE:
		fault_event(s, e);
		break;
	}
	s->count.events++;
}

static bool has_converged(const struct sim *s, uint64_t since)
{
	return s->oracle.last_acked_capture > since && s->tgt.up && !s->tgt.busy &&
	       s->tgt.op_count == 0 && !s->tgt.failing_over;
}

static void let_pass(struct sim *s)
{
	uint64_t calm_at = 0;
	struct sim_event e;

	while (!s->violation[0] && sim_next(s, &e)) {
		dispatch(s, &e);
		if (s->count.events > MAX_EVENTS)
			sim_violate(s, "runs in circles");
		if (!s->calm && s->count.cuts >= s->want_cuts &&
		    s->count.faults >= s->want_faults) {
			fault_calm(s);
			calm_at = s->now;
		}
		if (s->calm && has_converged(s, calm_at))
			return;
		if (s->calm && s->now > calm_at + CONVERGE_NS)
			sim_violate(s, "no new point in %" PRIu64 " s without faults (I22)",
				    CONVERGE_NS / SEC);
	}
}

static void tear_down(struct sim *s)
{
	struct sim_event e;

	if (s->src.up)
		source_stop(s, false);
	if (s->tgt.up)
		target_stop(s, false);
	while (sim_next(s, &e))
		lb_buf_unref(e.buf);
	lb_fs_destroy(s->src.fs);
	lb_fs_destroy(s->tgt.fs);
	lb_signer_destroy(s->signer[0]);
	lb_signer_destroy(s->signer[1]);
	free(s->oracle.t);
	free(s->heap);
}

int sim_run(struct sim_result *out, const struct sim_opts *o)
{
	struct sim *s = calloc(1, sizeof(*s));

	LB_ASSERT(s);
	set_up(s, o);
	let_pass(s);
	if (!s->violation[0])
		oracle_end(s);
	s->count.virtual_ns = s->now;
	tear_down(s);
	out->count = s->count;
	memcpy(out->violation, s->violation, sizeof(out->violation));
	free(s);
	return out->violation[0] ? 1 : 0;
}
