#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "delta_int.h"
#include "draft_int.h"
#include "imaging/dev.h"
#include "shadow_int.h"
#include "source_int.h"

/* The jobs of a group, on worker threads: everything that reads, hashes, packs, syncs, or waits for
 * the driver. */

#define PROGRESS_NS UINT64_C(250000000)

/* ---- OPEN ---- */

/* A RAM volume ends with its host's boot, and so may its store, unsynced. */
static int store_open_one(struct source_group *g, uint32_t i, struct lb_err *err)
{
	const struct rep_source_cfg *c = &g->s->cfg;
	const struct rep_source_volume *v = &g->cfg.volume[i];

	if (source_group_fleeting(g, i))
		return rep_digest_open_volatile(&g->digest[i], c->env, c->state, &v->volume,
						&c->boot_id, err);
	return rep_digest_open(&g->digest[i], c->env, c->state, &v->volume, err);
}

/* *lost is set (and why) when a store had to be begun anew. */
static int store_open(struct source_group *g, uint32_t i, bool *lost, struct lb_err *why,
		      struct lb_err *err)
{
	int rc = store_open_one(g, i, err);

	if (rc != LB_ECORRUPT)
		return rc;
	*lost = true;
	*why = *err;
	rc = rep_digest_discard(g->s->cfg.state, &g->cfg.volume[i].volume, err);
	return rc != 0 ? rc : store_open_one(g, i, err);
}

static void stores_close(struct source_group *g)
{
	(void)pthread_mutex_lock(&g->digest_lock);
	for (uint32_t i = 0; g->digest != NULL && i < g->cfg.volumes; i++)
		rep_digest_close(g->digest[i]);
	free(g->digest);
	g->digest = NULL;
	(void)pthread_mutex_unlock(&g->digest_lock);
}

static bool all_lead_to(const struct source_group *g, const struct lb_hash *manifest)
{
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		if (!source_group_fleeting(g, i) && !source_volume_leads(g, i, manifest))
			return false;
	}
	return true;
}

/* The volume describes @manifest from now on, or nothing: RAM beside disks that do. */
static int store_settle(struct source_group *g, uint32_t i, const struct lb_hash *manifest,
			struct lb_err *why, struct lb_err *err)
{
	const struct rep_source_volume *v = &g->cfg.volume[i];
	struct lb_hash base;
	int rc;

	if (!source_group_fleeting(g, i) || rep_digest_pending(g->digest[i], manifest) ||
	    (rep_digest_base(g->digest[i], &base) && lb_hash_equal(&base, manifest)))
		return rep_digest_commit(g->digest[i], manifest, err);
	if (!rep_digest_base(g->digest[i], &base))
		return 0;
	(void)lb_err_set(why, LB_EBASE, 0,
			 "digest store of %s of %s describes another point than the disks': all of "
			 "it is sent again",
			 v->volume_name, v->machine_name);
	rep_digest_close(g->digest[i]);
	g->digest[i] = NULL;
	rc = rep_digest_discard(g->s->cfg.state, &v->volume, err);
	return rc != 0 ? rc : store_open_one(g, i, err);
}

/* A driver that was not told of the last receipt, because a process died first, counts from the
 * point before: that names more blocks than needed, never less. */
static void note_before(struct source_group *g)
{
	struct lb_hash base;

	for (uint32_t i = 0; i < g->cfg.volumes; i++)
		if (!source_group_fleeting(g, i) && rep_digest_base(g->digest[i], &base)) {
			g->before = base;
			return;
		}
}

/* A crash between the commits of two volumes: the receipt had come, so the others follow. */
static int stores_agree(struct source_group *g, struct lb_err *why, struct lb_err *err)
{
	struct lb_hash base;
	bool any = false;

	memset(&g->described, 0, sizeof(g->described));
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		int rc = 0;

		if (source_group_fleeting(g, i) || !rep_digest_base(g->digest[i], &base))
			continue;
		any = true;
		if (!all_lead_to(g, &base))
			continue;
		note_before(g);
		for (uint32_t k = 0; rc == 0 && k < g->cfg.volumes; k++)
			rc = store_settle(g, k, &base, why, err);
		if (rc == 0)
			g->described = base;
		return rc;
	}
	if (any && why->code == 0)
		(void)lb_err_set(why, LB_EBASE, 0,
				 "digest stores of group %s describe different points: "
				 "everything is sent again",
				 g->cfg.name);
	return 0;
}

static int keys_get(struct source_group *g, struct lb_err *err)
{
	struct rep_source *s = g->s;
	int rc = 0;

	if (g->have_keys)
		return 0;
	(void)pthread_mutex_lock(&s->keys_lock);
	for (uint32_t i = 0; rc == 0 && i < g->cfg.volumes; i++) {
		rc = s->cfg.dek_of(s->cfg.arg, &g->cfg.volume[i].machine, &g->dek[i]);
		if (rc != 0)
			rc = lb_err_set(err, (enum lb_code)rc, 0, "data key of machine %s",
					g->cfg.volume[i].machine_name);
		else
			lb_key_id(&g->key_id[i], &g->dek[i]);
	}
	(void)pthread_mutex_unlock(&s->keys_lock);
	g->have_keys = rc == 0;
	return rc;
}

static int job_open(struct source_job *j)
{
	struct source_group *g = j->g;
	struct lb_err why = {0};
	bool lost = false;
	int rc = 0;

	stores_close(g);
	g->digest = calloc(g->cfg.volumes, sizeof(struct rep_digest *));
	if (g->digest == NULL)
		return lb_err_set(&j->err, LB_ENOMEM, 0, "allocate digest stores");
	for (uint32_t i = 0; rc == 0 && i < g->cfg.volumes; i++)
		rc = store_open(g, i, &lost, &why, &j->err);
	if (rc == 0)
		rc = stores_agree(g, &why, &j->err);
	if (rc == 0)
		rc = keys_get(g, &j->err);
	if (rc != 0)
		return rc;
	g->digest_bad = false; /* the core, and so leads_to, does not know the group yet */
	j->err = why;
	return 0;
}

/* ---- BEGIN ---- */

static bool volume_full(const struct source_group *g, uint32_t i)
{
	struct lb_hash base;

	return lb_hash_is_zero(&g->at.base) ||
	       (source_group_fleeting(g, i) && !rep_digest_base(g->digest[i], &base));
}

static void layer_header(const struct source_group *g, uint32_t i, struct rep_layer_header *h)
{
	const struct rep_source_cfg *c = &g->s->cfg;
	bool full = volume_full(g, i);

	*h = (struct rep_layer_header){.deployment = c->deployment,
				       .site = c->site,
				       .group = g->cfg.group,
				       .machine = g->layer[i].machine,
				       .volume = g->layer[i].volume,
				       .layer = g->layer[i].layer,
				       .key = g->key_id[i],
				       .epoch = g->at.epoch,
				       .seq = g->at.seq,
				       .volume_bytes = g->layer[i].volume_bytes,
				       .pack_raw_bytes =
					       full ? c->seed_pack_bytes : c->delta_pack_bytes,
				       .kind = g->layer[i].kind,
				       .codec = REP_CODEC_LZ4,
				       .full = full};
	if (!full)
		h->base = g->at.base;
}

/* Only a seed of a disk is worth going on with: a delta is short, and RAM does not stay. */
static bool has_draft(const struct source_group *g, uint32_t i)
{
	return g->cfg.volume[i].kind == REP_VOLUME_DISK && volume_full(g, i);
}

static void draft_facts(const struct source_group *g, uint32_t i, struct rep_draft_facts *f)
{
	layer_header(g, i, &f->header);
	f->prev = g->at.prev;
	f->run = g->s->run;
	rep_draft_probe(&f->probe, g->digest[i]);
}

/* The layer an earlier process was making, if this cut can go on with it; else a new one. */
static void layer_name(struct source_group *g, uint32_t i)
{
	struct rep_draft_facts f;

	rep_draft_close(g->draft[i]);
	g->draft[i] = NULL;
	lb_id_random(&g->layer[i].layer, g->s->cfg.env);
	if (!has_draft(g, i) || g->drafts_off)
		return;
	draft_facts(g, i, &f);
	if (rep_draft_resume(&g->draft[i], g->s->cfg.state, &f, NULL) == 0)
		g->layer[i].layer = *rep_draft_layer(g->draft[i]);
}

static int offer_layers(struct source_group *g, struct lb_err *err)
{
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		const struct rep_source_volume *v = &g->cfg.volume[i];
		uint64_t bytes = g->cut.volume[i].dev->size_bytes;

		if (bytes == 0 || bytes > REP_VOLUME_MAX_BYTES)
			return lb_err_set(err, LB_EINPUT, 0, "volume %s of %s has %llu bytes",
					  v->volume_name, v->machine_name,
					  (unsigned long long)bytes);
		bytes = (bytes + REP_BLOCK_BYTES - 1) / REP_BLOCK_BYTES * REP_BLOCK_BYTES;
		g->layer[i] = (struct rep_offer_layer){.machine = v->machine,
						       .volume = v->volume,
						       .kind = v->kind,
						       .volume_bytes = bytes};
		layer_name(g, i);
	}
	return 0;
}

/* A volume of @machine; RAM, or of any kind. */
static const struct rep_source_volume *volume_of(const struct source_group *g,
						 const struct lb_id *machine, bool ram)
{
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		const struct rep_source_volume *v = &g->cfg.volume[i];

		if (lb_id_equal(&v->machine, machine) && (!ram || v->kind == REP_VOLUME_RAM))
			return v;
	}
	return NULL;
}

/* What the manifest's decoder asks of a point with memory, said while the driver can be named. */
static int check_states(const struct source_group *g, struct lb_err *err)
{
	const struct rep_cut *c = &g->cut;

	for (uint32_t i = 0; i < c->states; i++) {
		const struct rep_cut_state *t = &c->state[i];
		char text[LB_ID_TEXT];

		if (volume_of(g, &t->machine, true) == NULL)
			return lb_err_set(err, LB_EINPUT, 0,
					  "device state of machine %s, which has no RAM volume",
					  lb_id_text(&t->machine, text));
		if (t->bytes < 1 || t->bytes > REP_ATTACHMENT_MAX)
			return lb_err_set(err, LB_EINPUT, 0,
					  "device state of %s has %u bytes, 1 to %u can be",
					  volume_of(g, &t->machine, true)->machine_name, t->bytes,
					  REP_ATTACHMENT_MAX);
	}
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		const struct rep_source_volume *v = &g->cfg.volume[i];
		bool has = false;

		if (c->consistency == REP_CONSISTENCY_MEMORY &&
		    volume_of(g, &v->machine, true) == NULL)
			return lb_err_set(err, LB_EINPUT, 0,
					  "a cut with memory, but none of machine %s",
					  v->machine_name);
		for (uint32_t k = 0; k < c->states; k++)
			has = has || lb_id_equal(&c->state[k].machine, &v->machine);
		if (v->kind == REP_VOLUME_RAM && !has)
			return lb_err_set(err, LB_EINPUT, 0,
					  "the cut has RAM of %s without its device state",
					  v->machine_name);
	}
	return 0;
}

static int job_begin(struct source_job *j)
{
	struct source_group *g = j->g;
	int rc = 0;

	memset(&g->cut, 0, sizeof(g->cut));
	rc = g->cfg.ops->begin(g->cfg.arg, &g->cut, &j->err);
	if (rc != 0)
		return rc;
	rc = check_states(g, &j->err);
	if (rc == 0)
		rc = offer_layers(g, &j->err);
	if (rc != 0)
		g->cfg.ops->end(g->cfg.arg, &g->cut, false);
	g->have_cut = rc == 0;
	return rc;
}

/* ---- SCAN ---- */

struct scan_ctx {
	struct source_group *g;
	struct lb_id layer;
};

static int on_emit(void *arg, enum rep_record_kind kind, uint32_t number, struct lb_buf *body,
		   struct lb_err *err)
{
	struct scan_ctx *x = arg;
	const struct source_part p = {.layer = x->layer, .kind = kind, .number = number};

	return source_part_put(x->g, &p, body, err);
}

struct progress_post {
	struct source_token *token;
	struct lb_id group;
};

static void progress_drop(void *arg)
{
	struct progress_post *p = arg;

	source_token_unref(p->token);
	free(p);
}

static void progress_tell(void *arg)
{
	struct progress_post *p = arg;
	struct rep_source *s = source_of(p->token);
	struct source_group *g = s != NULL ? source_group_find(s, &p->group) : NULL;

	if (g != NULL) {
		struct rep_source_event e = {.type = REP_SOURCE_PROGRESS, .group = p->group};

		e.epoch = g->at.epoch;
		e.seq = g->at.seq;
		e.bytes_done = __atomic_load_n(&g->scan_done_bytes, __ATOMIC_RELAXED);
		e.bytes_all = __atomic_load_n(&g->scan_all_bytes, __ATOMIC_RELAXED);
		source_event(s, &e);
	}
	progress_drop(p);
}

static void on_progress(void *arg, uint64_t bytes)
{
	struct scan_ctx *x = arg;
	struct source_group *g = x->g;
	uint64_t now = source_now(g->s);
	uint64_t last = __atomic_load_n(&g->progress_ns, __ATOMIC_RELAXED);
	struct progress_post *p;

	(void)__atomic_add_fetch(&g->scan_done_bytes, bytes, __ATOMIC_RELAXED);
	if (now - last < PROGRESS_NS ||
	    !__atomic_compare_exchange_n(&g->progress_ns, &last, now, false, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED))
		return;
	p = malloc(sizeof(*p));
	if (p == NULL)
		return; /* the next one will tell */
	*p = (struct progress_post){.token = source_token_ref(g->s), .group = g->cfg.group};
	lb_loop_post_owned(g->s->cfg.loop, progress_tell, progress_drop, p);
}

static int log_begin(struct source_group *g, uint32_t i, bool full, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&g->digest_lock);
	rc = rep_digest_begin(g->digest[i], full, err);
	g->digest_bad = g->digest_bad || rc != 0;
	(void)pthread_mutex_unlock(&g->digest_lock);
	return rc;
}

/* The shadow of a RAM volume, begun for the cut; NULL: do without. */
static struct rep_shadow *shadow_begin(struct source_group *g, uint32_t i, bool full)
{
	const struct rep_source_volume *v = &g->cfg.volume[i];

	if (v->kind != REP_VOLUME_RAM)
		return NULL;
	if (g->shadow[i] == NULL)
		(void)rep_shadow_create(&g->shadow[i], v->shadow_bytes, NULL);
	if (g->shadow[i] == NULL ||
	    rep_shadow_begin(g->shadow[i], full ? NULL : &g->at.base, &g->layer[i].layer,
			     g->layer[i].volume_bytes / REP_BLOCK_BYTES, NULL) != 0)
		return NULL; /* more bytes on the wire, which the statistics show */
	return g->shadow[i];
}

static void count_blocks(struct source_group *g, const struct rep_footer *f)
{
	(void)__atomic_add_fetch(&g->blocks_data, f->data_blocks, __ATOMIC_RELAXED);
	(void)__atomic_add_fetch(&g->blocks_zero, f->zero_blocks, __ATOMIC_RELAXED);
	(void)__atomic_add_fetch(&g->blocks_ref, f->ref_blocks, __ATOMIC_RELAXED);
	(void)__atomic_add_fetch(&g->blocks_patch, f->patch_blocks, __ATOMIC_RELAXED);
}

/* The next cut is not to meet this journal again. */
static void draft_drop(struct source_group *g, uint32_t i)
{
	if (rep_draft_discard(g->s->cfg.state, &g->cfg.volume[i].volume, NULL) != 0)
		g->drafts_off = true;
}

/* Is everything of the drafts that the peer holds known? Asked of all before anything is sent: then
 * another attempt, with another layer in the place of the bad one, can follow in this session. */
static int drafts_hold(struct source_group *g, struct lb_err *err)
{
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		const struct rep_source_volume *v = &g->cfg.volume[i];
		int rc = g->draft[i] != NULL ? rep_draft_hold(g->draft[i], g->admit, i, err) : 0;

		if (rc == 0)
			continue;
		draft_drop(g, i);
		return lb_err_wrap(err, rc, "volume %s of %s is sent from its beginning",
				   v->volume_name, v->machine_name);
	}
	return 0;
}

/* Go on with the draft, or begin the journal of a new layer. Without one the layer is made as well,
 * and a killed process means sending again. */
static int draft_begin(struct source_group *g, uint32_t i, struct lb_err *err)
{
	struct rep_draft_facts f;
	int rc;

	if (!has_draft(g, i))
		return 0;
	g->drafts_gone = false;
	if (g->draft[i] != NULL) {
		rc = rep_draft_go_on(g->draft[i], err);
		if (rc != 0 && rc != LB_ENOSPC && rc != LB_ENOMEM)
			draft_drop(g, i);
		return rc;
	}
	draft_facts(g, i, &f);
	(void)rep_draft_create(&g->draft[i], g->s->cfg.state, &f, NULL);
	return 0;
}

static void drafts_discard(struct source_group *g)
{
	for (uint32_t i = 0; i < g->cfg.volumes; i++) {
		rep_draft_close(g->draft[i]);
		g->draft[i] = NULL;
		if (!g->drafts_gone && g->cfg.volume[i].kind == REP_VOLUME_DISK)
			(void)rep_draft_discard(g->s->cfg.state, &g->cfg.volume[i].volume, NULL);
	}
	g->drafts_gone = true;
	g->drafts_off = false;
}

/* The driver's map, if it counts from what the peer holds. */
static const struct img_extmap *changes_of(struct source_group *g, uint32_t i, bool full)
{
	const struct rep_cut_volume *cv = &g->cut.volume[i];
	const struct rep_source_volume *v = &g->cfg.volume[i];

	if (full || cv->changed == NULL || lb_hash_is_zero(&cv->since) ||
	    lb_hash_equal(&cv->since, &g->at.base) || lb_hash_equal(&cv->since, &g->before))
		return full ? NULL : cv->changed;
	(void)lb_err_set(&g->strayed, LB_EBASE, 0,
			 "changes of %s of %s are known since another point than the other site's "
			 "newest: all of it is compared",
			 v->volume_name, v->machine_name);
	return NULL;
}

static int scan_volume(struct source_group *g, uint32_t i, struct rep_manifest_volume *out,
		       struct lb_err *err)
{
	const struct rep_source_cfg *c = &g->s->cfg;
	const struct rep_source_volume *v = &g->cfg.volume[i];
	bool full = volume_full(g, i);
	struct rep_layer_header h;
	struct scan_ctx x = {.g = g, .layer = g->layer[i].layer};
	struct rep_delta_cfg d = {.env = c->env,
				  .fs = c->state,
				  .header = &h,
				  .dek = &g->dek[i],
				  .digest = g->digest[i],
				  .dev = g->cut.volume[i].dev,
				  .changed = changes_of(g, i, full),
				  .shadow = shadow_begin(g, i, full),
				  .workers = c->workers,
				  .emit = on_emit,
				  .progress = on_progress,
				  .arg = &x};
	struct rep_delta_result r;
	int rc = draft_begin(g, i, err);

	layer_header(g, i, &h);
	d.draft = g->draft[i];
	if (rc == 0)
		rc = log_begin(g, i, full, err);
	/* Of a disk too many, for what is read once a cut. Without memory it is slower, no more. */
	if (rc == 0 && v->kind == REP_VOLUME_RAM)
		(void)rep_digest_keep(g->digest[i], h.volume_bytes / REP_BLOCK_BYTES, NULL);
	if (rc == 0)
		rc = rep_delta_run(&r, &d, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "volume %s of %s", v->volume_name, v->machine_name);
	(void)__atomic_add_fetch(&g->bytes_read, r.bytes_read, __ATOMIC_RELAXED);
	count_blocks(g, &r.footer);
	(void)__atomic_add_fetch(&g->blocks_kept, r.blocks_kept, __ATOMIC_RELAXED);
	*out = (struct rep_manifest_volume){.machine = v->machine,
					    .volume = v->volume,
					    .layer = h.layer,
					    .key = h.key,
					    .kind = v->kind,
					    .volume_bytes = h.volume_bytes,
					    .layer_bytes = r.footer.bytes,
					    .root = r.footer.root};
	memcpy(out->machine_name, v->machine_name, sizeof(out->machine_name));
	memcpy(out->volume_name, v->volume_name, sizeof(out->volume_name));
	return 0;
}

/* Seal @p as the manifest's next attachment; its bytes at *@room, which moves on. */
static int attach(struct source_group *g, struct rep_manifest *m, uint8_t **room,
		  const struct rep_attachment *proto, const void *p, uint32_t bytes,
		  struct lb_err *err)
{
	struct rep_attachment *a = &m->attachment[m->attachments];
	uint32_t i = 0;
	int rc;

	while (i + 1 < g->cfg.volumes && !lb_id_equal(&g->cfg.volume[i].machine, &proto->machine))
		i++;
	a->machine = proto->machine;
	a->kind = proto->kind;
	a->bytes = bytes;
	rc = rep_attachment_seal(a, *room, m, &g->dek[i], g->s->cfg.env, p, err);
	if (rc != 0)
		return rc;
	m->attachments++;
	*room += bytes;
	return 0;
}

/* The machines' description and the devices' states, sealed. *cipher is the caller's. */
static int attach_all(struct source_group *g, struct rep_manifest *m, uint8_t **cipher,
		      struct lb_err *err)
{
	struct rep_attachment a = {.machine = g->cfg.volume[0].machine, .kind = REP_ATTACH_MACHINE};
	const char *text = g->cut.machine_json;
	size_t len = text != NULL ? strlen(text) : 0, all = len;
	uint8_t *room;
	int rc = 0;

	if (len > REP_ATTACHMENT_MAX)
		return lb_err_set(err, LB_EINPUT, 0,
				  "description of group %s has %zu bytes, %u can be", g->cfg.name,
				  len, REP_ATTACHMENT_MAX);
	if (g->cut.states + (len != 0) > REP_MANIFEST_MAX_ATTACHMENTS)
		return lb_err_set(err, LB_EINPUT, 0, "group %s has %u device states, %u can be",
				  g->cfg.name, g->cut.states, REP_MANIFEST_MAX_ATTACHMENTS - 1);
	for (uint32_t i = 0; i < g->cut.states; i++)
		all += g->cut.state[i].bytes;
	if (all == 0)
		return 0;
	room = *cipher = malloc(all);
	if (room == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate %zu bytes", all);
	if (len != 0)
		rc = attach(g, m, &room, &a, text, (uint32_t)len, err);
	a.kind = REP_ATTACH_DEVICE_STATE;
	for (uint32_t i = 0; rc == 0 && i < g->cut.states; i++) {
		a.machine = g->cut.state[i].machine;
		rc = attach(g, m, &room, &a, g->cut.state[i].p, g->cut.state[i].bytes, err);
	}
	return rc;
}

static int manifest_make(struct source_group *g, struct rep_manifest *m, struct lb_err *err)
{
	const struct rep_source_cfg *c = &g->s->cfg;
	uint8_t *cipher = NULL;
	int rc;

	m->deployment = c->deployment;
	m->site = c->site;
	m->group = g->cfg.group;
	m->barrier = g->cut.barrier;
	if (lb_id_is_zero(&m->barrier))
		lb_id_random(&m->barrier, c->env);
	memcpy(m->group_name, g->cfg.name, sizeof(m->group_name));
	m->epoch = g->at.epoch;
	m->seq = g->at.seq;
	m->prev = g->at.prev;
	m->base = g->at.base;
	m->capture_boot_ns = g->cut.capture_boot_ns;
	m->capture_wall_ns = g->cut.capture_wall_ns;
	m->boot_id = c->boot_id;
	m->consistency = g->cut.consistency;
	m->volumes = g->cfg.volumes;
	rc = attach_all(g, m, &cipher, err);
	lb_buf_unref(g->manifest);
	g->manifest = NULL;
	if (rc == 0)
		rc = rep_manifest_encode(&g->manifest, m, c->signer, err);
	free(cipher);
	return rc;
}

static int logs_seal(struct source_group *g, struct lb_err *err)
{
	struct lb_hash hash;
	int rc = 0;

	rep_manifest_hash(&hash, g->manifest->p, g->manifest->len);
	(void)pthread_mutex_lock(&g->digest_lock);
	for (uint32_t i = 0; rc == 0 && i < g->cfg.volumes; i++)
		rc = rep_digest_seal(g->digest[i], &hash, err);
	g->digest_bad = g->digest_bad || rc != 0;
	(void)pthread_mutex_unlock(&g->digest_lock);
	for (uint32_t i = 0; rc == 0 && i < g->cfg.volumes; i++) {
		if (g->shadow[i] != NULL)
			rep_shadow_seal(g->shadow[i], &hash);
	}
	return rc;
}

static int job_scan(struct source_job *j)
{
	struct source_group *g = j->g;
	struct rep_manifest *m = calloc(1, sizeof(*m));
	uint64_t all = 0;
	int rc = 0;

	if (m == NULL)
		return lb_err_set(&j->err, LB_ENOMEM, 0, "allocate a manifest");
	g->strayed = (struct lb_err){0};
	for (uint32_t i = 0; i < g->cfg.volumes; i++)
		all += g->layer[i].volume_bytes;
	__atomic_store_n(&g->scan_done_bytes, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&g->scan_all_bytes, all, __ATOMIC_RELAXED);
	rc = drafts_hold(g, &j->err);
	for (uint32_t i = 0; rc == 0 && i < g->cfg.volumes; i++)
		rc = scan_volume(g, i, &m->volume[i], &j->err);
	if (rc == 0 && g->cfg.ops->check != NULL)
		rc = g->cfg.ops->check(g->cfg.arg, &g->cut, &j->err);
	if (rc == 0)
		rc = manifest_make(g, m, &j->err);
	if (rc == 0)
		rc = logs_seal(g, &j->err);
	__atomic_store_n(&g->scan_done_bytes, all, __ATOMIC_RELAXED);
	free(m);
	return rc;
}

/* ---- END ---- */

static int job_end(struct source_job *j)
{
	struct source_group *g = j->g;
	struct lb_hash base;
	int rc = 0;

	/* the driver first: dying after it costs nothing, the digests are committed at the next
	 * start */
	g->cut.point = j->manifest;
	if (g->have_cut)
		g->cfg.ops->end(g->cfg.arg, &g->cut, j->cut_acked);
	g->have_cut = false;
	(void)pthread_mutex_lock(&g->digest_lock);
	if (j->commit)
		note_before(g);
	for (uint32_t i = 0; j->commit && rc == 0 && i < g->cfg.volumes; i++) {
		/* Known of before this process' first cut of it: the next one is full. */
		if (source_group_fleeting(g, i) && !rep_digest_base(g->digest[i], &base) &&
		    !rep_digest_pending(g->digest[i], &j->manifest))
			continue;
		rc = rep_digest_commit(g->digest[i], &j->manifest, &j->err);
	}
	g->digest_bad = g->digest_bad || rc != 0;
	(void)pthread_mutex_unlock(&g->digest_lock);
	for (uint32_t i = 0; j->commit && i < g->cfg.volumes; i++) {
		if (g->shadow[i] != NULL)
			rep_shadow_commit(g->shadow[i], &j->manifest);
	}
	if (j->commit)
		drafts_discard(g);
	return rc;
}

void source_job_run(struct source_job *j)
{
	switch (j->kind) {
	case JOB_OPEN:
		j->rc = job_open(j);
		break;
	case JOB_BEGIN:
		j->rc = job_begin(j);
		break;
	case JOB_SCAN:
		j->rc = job_scan(j);
		break;
	case JOB_END:
		j->rc = job_end(j);
		break;
	}
}
