/*
 * The source site's shell: as source.c, but time is virtual and a scan takes no threads. The disks
 * are tables of versions; what the process must remember is in its digest stores.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fs.h"
#include "memfs.h"
#include "shadow_int.h"
#include "sim_layer.h"
#include "test_bugs.h"

static void sim_cut_over(struct sim *s)
{
	rep_draft_close(s->src.draft);
	s->src.draft = NULL;
	if (s->src.cut.active)
		sim_cut_fini(&s->src.cut);
}

/* Its own disk failed it: die and come back, as a supervisor would have it. */
static void source_dies(struct sim *s, const char *why, const struct lb_err *err)
{
	sim_log(s, "source dies: %s: %s", why, err->msg);
	s->src.disk_failed |= !lb_memfs_is_cut(s->src.fs);
	source_stop(s, lb_memfs_is_cut(s->src.fs));
}

/* ---- durable state ---- */

/* Does volume @v lead to @manifest? RAM of which nothing is known goes in full on any base. */
static bool volume_leads(struct sim *s, unsigned v, const struct lb_hash *manifest)
{
	struct lb_hash base;

	if (!rep_digest_base(s->src.digest[v], &base))
		return v == SIM_RAM || rep_digest_pending(s->src.digest[v], manifest);
	return lb_hash_equal(&base, manifest) || rep_digest_pending(s->src.digest[v], manifest);
}

static bool leads_to(void *arg, const struct lb_id *group, const struct lb_hash *manifest)
{
	struct sim *s = arg;

	(void)group;
	for (unsigned v = 0; v < SIM_VOLUMES; v++)
		if (!volume_leads(s, v, manifest))
			return false;
	return true;
}

/* RAM's store is of this boot only, and is not synced. */
static int digest_open(struct sim *s, unsigned v, struct lb_err *err)
{
	struct sim_source *x = &s->src;

	if (v == SIM_RAM)
		return rep_digest_open_volatile(&x->digest[v], &x->env.env, x->fs, &s->volume[v],
						&x->env.boot_id, err);
	return rep_digest_open(&x->digest[v], &x->env.env, x->fs, &s->volume[v], err);
}

/* What the disk's store describes; the RAM's follows, or is begun anew. */
static int described(struct sim *s, struct lb_hash *out, struct lb_err *err)
{
	struct rep_digest **ram = &s->src.digest[SIM_RAM];
	struct lb_hash base, other;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!rep_digest_base(s->src.digest[0], &base))
		return 0;
	*out = base;
	if (!rep_digest_base(*ram, &other) && !rep_digest_pending(*ram, &base))
		return 0;
	if (volume_leads(s, SIM_RAM, &base))
		return rep_digest_commit(*ram, &base, err);
	s->count.digests_lost++;
	rep_digest_close(*ram);
	*ram = NULL;
	rc = rep_digest_discard(s->src.fs, &s->volume[SIM_RAM], err);
	return rc != 0 ? rc : digest_open(s, SIM_RAM, err);
}

static int digests_open(struct sim *s, struct lb_err *err)
{
	struct sim_source *x = &s->src;
	int rc = 0;

	for (unsigned v = 0; rc == 0 && v < SIM_VOLUMES; v++) {
		rc = digest_open(s, v, err);
		/* That opening syncs, and says what failed since, is why RAM's may do without. */
		if (rc == LB_ECORRUPT && !x->disk_failed &&
		    !(v == SIM_RAM && strstr(err->msg, "was not written back")))
			sim_violate(s, "digest store is corrupt: %s", err->msg);
		if (rc != LB_ECORRUPT)
			continue;
		/* a write failed half done: the way out is another full cut */
		s->count.digests_lost++;
		rc = rep_digest_discard(x->fs, &s->volume[v], err);
		if (rc == 0)
			rc = digest_open(s, v, err);
	}
	return rc != 0 ? rc : described(s, &x->described, err);
}

static void digests_close(struct sim *s)
{
	for (unsigned v = 0; v < SIM_VOLUMES; v++) {
		rep_digest_close(s->src.digest[v]);
		s->src.digest[v] = NULL;
	}
}

static int digests_each(struct sim *s,
			int (*fn)(struct rep_digest *, const struct lb_hash *, struct lb_err *),
			const struct lb_hash *manifest, struct lb_err *err)
{
	int rc = 0;

	for (unsigned v = 0; rc == 0 && v < SIM_VOLUMES; v++)
		rc = fn(s->src.digest[v], manifest, err);
	return rc;
}

static int digests_commit(struct sim *s, const struct lb_hash *manifest, struct lb_err *err)
{
	struct rep_digest *ram = s->src.digest[SIM_RAM];
	struct lb_hash base;
	int rc = rep_digest_commit(s->src.digest[0], manifest, err);

	if (rc == 0 && (rep_digest_base(ram, &base) || rep_digest_pending(ram, manifest)))
		rc = rep_digest_commit(ram, manifest, err);
	return rc;
}

/* ---- the process ---- */

static void add_group(struct sim *s)
{
	struct rep_sender_group g = {.group = s->group, .epoch = s->src.epoch};
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_ADD, .add = &g};

	(void)snprintf(g.name, sizeof(g.name), "shop");
	g.described = s->src.described;
	source_step(s, &e);
}

void source_start(struct sim *s)
{
	struct rep_sender_cfg cfg = REP_SENDER_CFG_DEFAULTS;
	struct sim_source *x = &s->src;
	struct lb_err err = {0};

	if (digests_open(s, &err)) {
		x->disk_failed |= !lb_memfs_is_cut(x->fs);
		digests_close(s);
		if (lb_memfs_is_cut(x->fs))
			source_stop(s, true);
		else
			sim_at(s, SEC, (struct sim_event){.type = EV_SOURCE_START, .gen = x->gen});
		return;
	}
	cfg.env = &x->env.env;
	cfg.deployment = s->deployment;
	cfg.site = s->site[1];
	cfg.boot_id = x->env.boot_id;
	cfg.peer_site = s->site[0];
	cfg.peer_key = s->pub[0];
	cfg.connections = SIM_CONNECTIONS;
	cfg.window_bytes = s->window_bytes;
	cfg.leads_to = leads_to;
	cfg.arg = s;
	LB_ASSERT(rep_sender_create(&x->sender, &cfg, NULL) == 0);
	/* Now and then there is room for a few pages only. */
	LB_ASSERT(rep_shadow_create(&x->shadow, sim_chance(s, 25) ? 4096 * sim_below(s, 40) : 0,
				    NULL) == 0);
	x->up = true;
	x->tick_at = 0;
	lb_id_random(&x->run, &x->env.env);
	sim_log(s, "source starts");
	if (!x->fenced)
		add_group(s);
	else
		source_step(s, &(struct rep_sender_event){.type = REP_SENDER_TICK});
}

void source_stop(struct sim *s, bool power)
{
	struct sim_source *x = &s->src;
	struct rep_sender_stats st;

	if (x->up) {
		rep_sender_stats(x->sender, &st);
		s->count.sessions += st.sessions;
		s->count.parts += st.parts_sent;
		s->count.resent += st.parts_resent;
		s->count.skipped += st.parts_skipped;
		s->count.resent_held += st.parts_resent_held;
	}
	x->gen++;
	x->up = x->ready = false;
	rep_sender_destroy(x->sender);
	x->sender = NULL;
	sim_cut_over(s);
	digests_close(s);
	rep_shadow_destroy(x->shadow);
	x->shadow = NULL;
	memset(x->conn, 0, sizeof(x->conn));
	net_process_gone(s, 1, !power);
	if (power) {
		lb_memfs_power_cut(x->fs, sim_below(s, UINT64_MAX));
		sim_env_boot(&x->env);
	}
	sim_at(s, 50 * MS + sim_below(s, (power ? 20 : 3) * SEC),
	       (struct sim_event){.type = EV_SOURCE_START, .gen = x->gen});
}

static void drop_cut(struct sim *s)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT_DROPPED, .group = s->group};

	sim_cut_over(s);
	source_step(s, &e);
}

void source_blank(struct sim *s)
{
	source_stop(s, false);
	for (unsigned v = 0; v < SIM_VOLUMES; v++)
		if (rep_digest_discard(s->src.fs, &s->volume[v], NULL) != 0)
			s->src.disk_failed = true;
	s->src.voided = true; /* so everything is sent again, with reason */
}

/* ---- drafts ---- */

static void draft_facts(struct sim *s, struct rep_draft_facts *f)
{
	sim_layer_header(s, 0, &f->header);
	f->prev = s->src.cut.place.prev;
	f->run = s->src.run;
	rep_draft_probe(&f->probe, s->src.digest[0]);
}

static bool is_seed(const struct sim *s)
{
	return lb_hash_is_zero(&s->src.cut.place.base);
}

/* The disk's layer: the one an earlier process was making, or a new one. */
static void draft_resume(struct sim *s)
{
	struct sim_source *x = &s->src;
	struct rep_draft_facts f;

	if (!is_seed(s))
		return;
	draft_facts(s, &f);
	if (rep_draft_resume(&x->draft, x->fs, &f, NULL) != 0)
		return;
	s->count.drafts++;
	x->cut.layer[0] = *rep_draft_layer(x->draft);
	sim_log(s, "goes on with a draft");
}

/* False: the cut is over. */
static bool draft_begin(struct sim *s, const struct rep_admit *a)
{
	struct sim_source *x = &s->src;
	struct rep_draft_facts f;
	struct lb_err err = {0};
	int rc = 0;

	if (!is_seed(s))
		return true;
	s->count.seeds++;
	if (x->draft == NULL) {
		draft_facts(s, &f);
		(void)rep_draft_create(&x->draft, x->fs, &f, NULL);
		return true;
	}
	rc = rep_draft_hold(x->draft, a, 0, &err);
	if (rc != 0) {
		s->count.drafts_dropped++;
		sim_log(s, "%s", err.msg);
		if (rep_draft_discard(x->fs, &s->volume[0], &err) != 0)
			source_dies(s, "draft", &err);
		else
			drop_cut(s);
		return false;
	}
	rc = rep_draft_go_on(x->draft, &err);
	if (rc != 0)
		source_dies(s, "draft", &err);
	return rc == 0;
}

/* As in the product: before the part leaves. False: the power failed. */
static bool draft_note(struct sim *s, const struct sim_part *p)
{
	struct rep_draft *d = s->src.draft;
	struct lb_err err = {0};

	if (d == NULL || p->layer != 0)
		return true;
	if (p->kind == REP_RECORD_PACK && p->fill) {
		rep_draft_note_fill(d, p->number, &p->leaf, (uint32_t)p->body->len);
		rep_draft_sync(d);
	} else if (p->kind == REP_RECORD_PACK) {
		rep_draft_note_pack(d, p->number, &p->leaf, (uint32_t)p->body->len, p->block,
				    p->digest, p->blocks);
	} else if (p->kind == REP_RECORD_INDEX || p->kind == REP_RECORD_DIGESTS) {
		rep_draft_note_part(d, p->kind, p->number);
	}
	if (lb_memfs_is_cut(s->src.fs))
		source_dies(s, "note", &err);
	return s->src.up;
}

/* ---- a cut ---- */

static void take_cut(struct sim *s)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT, .group = s->group};
	struct rep_offer_layer offer[SIM_VOLUMES];
	struct sim_source *x = &s->src;
	struct sim_cut *c = &x->cut;
	struct lb_err err = {0};

	if (!x->ready || c->active)
		return;
	sim_write(s);
	x->ready = false;
	c->active = true;
	c->place = x->place;
	c->frozen = x->disk;
	c->captured_at = s->now;
	c->capture_boot_ns = x->env.env.now_ns(&x->env.env);
	for (unsigned v = 0; v < SIM_VOLUMES; v++) {
		c->layer[v] = REP_BUG(resume_moved_cut) && !lb_id_is_zero(&x->last_layer[v])
				      ? x->last_layer[v]
				      : sim_id(s);
		if (v == 0)
			draft_resume(s);
		x->last_layer[v] = c->layer[v];
		offer[v] = (struct rep_offer_layer){
			.machine = s->machine,
			.volume = s->volume[v],
			.layer = c->layer[v],
			.kind = v == SIM_RAM ? REP_VOLUME_RAM : REP_VOLUME_DISK,
			.volume_bytes = (uint64_t)s->blocks[v] * REP_BLOCK_BYTES,
		};
	}
	s->count.cuts++;
	e.cut.place = c->place;
	e.cut.layer = offer;
	e.cut.layers = SIM_VOLUMES;
	if (rep_sender_step(x->sender, &e, x->env.env.now_ns(&x->env.env), &err)) {
		sim_violate(s, "sender refuses a cut it was ready for: %s", err.msg);
		return;
	}
	source_step(s, NULL);
}

static void scan(struct sim *s, const struct rep_admit *admit)
{
	struct sim_cut *c = &s->src.cut;
	struct lb_err err = {0};
	bool full = lb_hash_is_zero(&c->place.base), ram_full;
	struct lb_hash base;
	int rc = 0;

	LB_ASSERT(c->active && c->parts == 0);
	if (!draft_begin(s, admit))
		return;
	s->src.voided |= full;
	if (full)
		memset(&s->src.described, 0, sizeof(s->src.described));
	ram_full = full || !rep_digest_base(s->src.digest[SIM_RAM], &base);
	s->count.ram_full += ram_full && !full;
	for (unsigned v = 0; rc == 0 && v < SIM_VOLUMES; v++)
		rc = rep_digest_begin(s->src.digest[v], v == SIM_RAM ? ram_full : full, &err);
	LB_ASSERT(rep_shadow_begin(s->src.shadow, ram_full ? NULL : &c->place.base,
				   &c->layer[SIM_RAM], s->blocks[SIM_RAM], NULL) == 0);
	if (rc == 0)
		rc = sim_cut_build(s, &err);
	if (rc == LB_ECHANGED) { /* a draft's digests parts are more than there is data now */
		drop_cut(s);
		return;
	}
	if (rc != 0) {
		source_dies(s, "scan", &err);
		return;
	}
	sim_at(s, sim_below(s, 20 * MS), (struct sim_event){.type = EV_GIVE, .gen = s->src.gen});
}

static void apply_early(struct sim *s, const struct lb_hash *hash)
{
	if (REP_BUG(apply_before_receipt))
		(void)digests_each(s, rep_digest_commit, hash, NULL);
}

/* All parts are given: sign, make the redo logs durable, then say so. */
static void seal(struct sim *s)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT_SEALED, .group = s->group};
	struct sim_cut *c = &s->src.cut;
	struct lb_err err = {0};
	struct lb_buf *manifest;
	int rc = 0;

	LB_ASSERT(rep_manifest_encode(&manifest, c->m, s->signer[1], NULL) == 0);
	rep_manifest_hash(&c->hash, manifest->p, manifest->len);
	oracle_cut(s, c);
	c->sealed = true;
	if (!REP_BUG(redo_not_synced))
		rc = digests_each(s, rep_digest_seal, &c->hash, &err);
	if (rc == 0) {
		rep_shadow_seal(s->src.shadow, &c->hash);
		apply_early(s, &c->hash);
		e.sealed.manifest = manifest;
		e.sealed.capture_boot_ns = c->capture_boot_ns;
		source_step(s, &e);
	} else {
		source_dies(s, "seal", &err);
	}
	lb_buf_unref(manifest);
}

static int give_one(struct sim *s)
{
	struct rep_sender_event e = {.type = REP_SENDER_PART};
	struct sim_source *x = &s->src;
	const struct sim_part *p = &x->cut.part[x->cut.given];
	struct rep_record_frame f = {
		.kind = p->kind,
		.group = s->group,
		.layer = x->cut.layer[p->layer],
		.number = p->number,
		.bytes = (uint32_t)p->body->len,
	};
	int rc;

	LB_ASSERT(rep_frame_encode_record_head(&e.part.head, &f, NULL) == 0);
	e.part.group = s->group;
	e.part.layer = f.layer;
	e.part.kind = f.kind;
	e.part.number = f.number;
	e.part.bytes = f.bytes;
	e.part.body = p->body;
	rc = rep_sender_step(x->sender, &e, x->env.env.now_ns(&x->env.env), NULL);
	lb_buf_unref(e.part.head);
	source_step(s, NULL);
	return rc;
}

static void give(struct sim *s)
{
	struct sim_source *x = &s->src;
	struct sim_cut *c = &x->cut;
	uint64_t gen = x->gen;
	unsigned n = 1 + (unsigned)sim_below(s, 6);
	/* Seeds are few: they get harm of their own. */
	bool hard = is_seed(s) && !s->calm;

	if (!c->active || c->sealed || c->parts == 0)
		return;
	if (sim_chance(s, hard ? 4 : 1)) {
		/* The driver says: the source changed while it was read. Parts of the cut may be
		 * on a slow path still when the next one is offered. */
		struct sim_conn *slow = net_find(s, x->conn[SIM_CONNECTIONS - 1]);

		if (slow && hard && sim_chance(s, 70))
			slow->stalled_until = s->now + sim_below(s, 5 * SEC);
		drop_cut(s);
		return;
	}
	if (hard && s->count.seed_kills < 15 && sim_chance(s, 4)) {
		s->count.seed_kills++;
		source_stop(s, sim_chance(s, 30));
		return;
	}
	for (unsigned i = 0; i < n && c->given < c->parts; i++) {
		int rc = draft_note(s, &c->part[c->given]) ? give_one(s) : LB_ENOTFOUND;

		if (x->gen != gen || !c->active || rc == LB_ENOTFOUND)
			return; /* ABANDONED has come, or is on its way */
		if (rc == LB_EAGAIN) {
			c->waits_room = true;
			return;
		}
		LB_ASSERT(rc == 0);
		c->given++;
	}
	if (c->given == c->parts)
		seal(s);
	else
		sim_at(s, sim_below(s, 10 * MS), (struct sim_event){.type = EV_GIVE, .gen = gen});
}

/* ---- actions ---- */

static void on_acked(struct sim *s, const struct rep_sender_action *a)
{
	struct lb_err err = {0};
	int rc = 0;

	s->count.acked++;
	s->src.voided = false;
	memset(s->src.last_layer, 0, sizeof(s->src.last_layer));
	s->count.acked_by_status += a->receipt == NULL;
	oracle_acked(s, a);
	if (REP_BUG(redo_not_synced) && s->src.cut.sealed)
		rc = digests_each(s, rep_digest_seal, &a->manifest, &err);
	if (rc == 0)
		rc = digests_commit(s, &a->manifest, &err);
	s->src.described = a->manifest;
	rep_shadow_commit(s->src.shadow, &a->manifest);
	sim_cut_over(s);
	(void)rep_draft_discard(s->src.fs, &s->volume[0], NULL);
	if (rc != 0)
		source_dies(s, "apply", &err);
}

static void on_abandoned(struct sim *s, const struct rep_sender_action *a)
{
	s->count.abandoned++;
	sim_log(s, "abandoned: %s", a->err.msg);
	oracle_abandoned(s, a);
	if (REP_BUG(apply_on_abandon) && s->src.cut.sealed)
		(void)digests_each(s, rep_digest_commit, &s->src.cut.hash, NULL);
	sim_cut_over(s);
}

static void on_fenced(struct sim *s, const struct rep_sender_action *a)
{
	s->count.fenced++;
	if (a->epoch <= s->src.epoch)
		sim_violate(s, "source fenced itself without a higher epoch");
	if (s->tgt.role.epoch < a->epoch)
		sim_violate(s, "source heard of an epoch that nobody recorded (I10)");
	s->src.fenced = true;
	s->src.ready = false;
	sim_cut_over(s);
}

static void on_action(struct sim *s, struct rep_sender_action *a)
{
	struct sim_source *x = &s->src;

	switch (a->type) {
	case REP_SENDER_CONNECT:
		x->conn[a->conn] = net_connect(s, a->conn, false);
		break;
	case REP_SENDER_CLOSE:
		net_close(s, x->conn[a->conn], 1);
		x->conn[a->conn] = 0;
		break;
	case REP_SENDER_SEND:
		net_send(s, x->conn[a->conn], 0, a->head, a->body);
		break;
	case REP_SENDER_LINK_UP:
	case REP_SENDER_LINK_DOWN:
		sim_log(s, "link %s %s", a->type == REP_SENDER_LINK_UP ? "up" : "down", a->err.msg);
		break;
	case REP_SENDER_READY:
		x->ready = true;
		x->place = a->place;
		sim_at(s, 20 * MS + sim_below(s, 400 * MS),
		       (struct sim_event){.type = EV_CUT, .gen = x->gen});
		break;
	case REP_SENDER_RESYNC:
		s->count.resyncs++;
		sim_log(s, "resync: %s", a->err.msg);
		if (!x->disk_failed && !x->voided)
			sim_violate(s, "everything is sent again without need: %s", a->err.msg);
		break;
	case REP_SENDER_SCAN:
		scan(s, a->admit);
		break;
	case REP_SENDER_ROOM:
		if (x->cut.waits_room)
			sim_at(s, 0, (struct sim_event){.type = EV_GIVE, .gen = x->gen});
		x->cut.waits_room = false;
		break;
	case REP_SENDER_ACKED:
		on_acked(s, a);
		break;
	case REP_SENDER_ABANDONED:
		on_abandoned(s, a);
		break;
	case REP_SENDER_REFUSED:
		s->count.refused++;
		sim_log(s, "refused: %s", a->err.msg);
		break;
	case REP_SENDER_FENCED:
		on_fenced(s, a);
		break;
	case REP_SENDER_STOPPED:
		sim_violate(s, "source was stopped: %s", a->err.msg);
		break;
	}
}

/* One event (NULL: only what is left to do), then its actions, then the next tick. */
void source_step(struct sim *s, const struct rep_sender_event *e)
{
	struct sim_source *x = &s->src;
	struct rep_sender_action a;
	uint64_t gen = x->gen;
	uint64_t now, due;

	if (!x->up)
		return;
	now = x->env.env.now_ns(&x->env.env);
	if (e)
		(void)rep_sender_step(x->sender, e, now, NULL);
	while (x->gen == gen && rep_sender_next(x->sender, &a))
		on_action(s, &a);
	if (x->gen != gen)
		return;
	due = rep_sender_deadline(x->sender);
	due = due == UINT64_MAX ? 60 * SEC : due > now ? due - now : 0;
	due += due / 1000 + 1; /* our clock may be slow */
	if (x->tick_at <= s->now || s->now + due < x->tick_at) {
		x->tick_at = s->now + due;
		sim_at(s, due, (struct sim_event){.type = EV_SOURCE_TICK, .gen = gen});
	}
}

/* The role comes back with a higher epoch: the group starts anew. */
static void give_back(struct sim *s)
{
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_GONE, .group = s->group};

	if (!s->src.fenced || !s->src.up) {
		sim_at(s, SEC, (struct sim_event){.type = EV_GIVE_BACK});
		return;
	}
	s->tgt.role.writable = true;
	s->src.epoch = s->tgt.role.epoch + 1;
	s->src.fenced = false;
	s->tgt.failing_over = false;
	sim_log(s, "role given back, epoch %llu", (unsigned long long)s->src.epoch);
	source_step(s, &e);
	add_group(s);
}

void source_event(struct sim *s, struct sim_event *e)
{
	if (e->type == EV_GIVE_BACK) {
		give_back(s);
		return;
	}
	if (e->gen != s->src.gen)
		return;
	switch ((int)e->type) {
	case EV_SOURCE_START:
		source_start(s);
		break;
	case EV_CUT:
		take_cut(s);
		break;
	case EV_GIVE:
		give(s);
		break;
	default: /* EV_SOURCE_TICK */
		source_step(s, &(struct rep_sender_event){.type = REP_SENDER_TICK});
		break;
	}
}
