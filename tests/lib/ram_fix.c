#include "ram_fix.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "imaging/dev.h"
#include "memfs.h"
#include "replicator/digest.h"
#include "replicator/store.h"

static void must(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "ram_fix: %s\n", err->msg);
	abort();
}

struct lb_id ram_fix_machine(void)
{
	return fix_id(0x31);
}

struct lb_id ram_fix_volume(void)
{
	return fix_id(0x41);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void ram_fix_init(struct ram_fix *r, struct lb_fs *fs, uint64_t bytes, unsigned workers,
		  uint64_t seed)
{
	const struct lb_id volume = ram_fix_volume();
	struct lb_err err = {0};

	memset(r, 0, sizeof(*r));
	r->env = fix_env(seed);
	r->bytes = bytes;
	r->workers = workers;
	r->seed_pack_bytes = REP_PACK_MAX_RAW;
	r->delta_pack_bytes = 65536;
	r->dek = fix_key();
	r->signer = fix_signer();
	r->ram = fake_ram_create(bytes, seed);
	(void)pthread_mutex_init(&r->lock, NULL);
	r->fs = fs;
	if (fs == NULL)
		must(lb_memfs_create(&r->fs, seed, &err), &err);
	must(rep_digest_open(&r->digest, &r->env.env, r->fs, &volume, &err), &err);
	must(rep_digest_keep(r->digest, bytes / REP_BLOCK_BYTES, &err), &err);
	must(rep_shadow_create(&r->shadow, 0, &err), &err);
}

void ram_fix_fini(struct ram_fix *r)
{
	rep_shadow_destroy(r->shadow);
	rep_digest_close(r->digest);
	fake_ram_destroy(r->ram);
	lb_fs_destroy(r->fs);
	lb_signer_destroy(r->signer);
	(void)pthread_mutex_destroy(&r->lock);
}

int ram_fix_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out)
{
	const struct ram_fix *r = arg;
	struct lb_id id;

	lb_key_id(&id, &r->dek);
	if (!lb_id_equal(&id, key_id))
		return LB_ENOTFOUND;
	*out = r->dek;
	return 0;
}

struct emit {
	struct ram_fix *r;
	struct lb_id layer;
};

static int on_emit(void *arg, enum rep_record_kind kind, uint32_t number, struct lb_buf *body,
		   struct lb_err *err)
{
	const struct emit *e = arg;
	uint64_t from = cpu_ns();
	int rc;

	(void)pthread_mutex_lock(&e->r->lock);
	rc = rep_store_append(e->r->store, kind, &e->layer, number, body, NULL, err);
	e->r->store_ns += cpu_ns() - from;
	(void)pthread_mutex_unlock(&e->r->lock);
	return rc;
}

static void layer_header(struct ram_fix *r, struct rep_layer_header *h)
{
	bool full = lb_hash_is_zero(&r->head);

	*h = (struct rep_layer_header){.deployment = fix_id(0x11),
				       .site = fix_id(0x22),
				       .group = fix_id(0x33),
				       .machine = ram_fix_machine(),
				       .volume = ram_fix_volume(),
				       .epoch = 1,
				       .seq = r->seq,
				       .volume_bytes = r->bytes,
				       .pack_raw_bytes =
					       full ? r->seed_pack_bytes : r->delta_pack_bytes,
				       .kind = REP_VOLUME_RAM,
				       .codec = REP_CODEC_LZ4,
				       .full = full,
				       .base = r->head};
	lb_key_id(&h->key, &r->dek);
	lb_id_random(&h->layer, &r->env.env);
}

static void point_make(struct ram_fix *r, struct rep_manifest *m, const struct rep_layer_header *h,
		       struct lb_buf **out)
{
	static const char state[] = "registers";
	uint8_t cipher[sizeof(state)];
	struct rep_manifest_volume *v = &m->volume[0];
	struct lb_err err = {0};

	m->deployment = h->deployment;
	m->site = h->site;
	m->group = h->group;
	m->barrier = fix_id((uint8_t)r->seq);
	(void)snprintf(m->group_name, sizeof(m->group_name), "mem");
	m->epoch = h->epoch;
	m->seq = h->seq;
	m->prev = m->base = r->head;
	m->capture_wall_ns = m->capture_boot_ns = r->seq;
	m->consistency = REP_CONSISTENCY_MEMORY;
	m->volumes = m->attachments = 1;
	*v = (struct rep_manifest_volume){.machine = h->machine,
					  .volume = h->volume,
					  .layer = h->layer,
					  .key = h->key,
					  .kind = h->kind,
					  .volume_bytes = h->volume_bytes,
					  .layer_bytes = r->made.footer.bytes,
					  .root = r->made.footer.root};
	(void)snprintf(v->machine_name, sizeof(v->machine_name), "m1");
	(void)snprintf(v->volume_name, sizeof(v->volume_name), "ram");
	m->attachment[0].machine = h->machine;
	m->attachment[0].kind = REP_ATTACH_DEVICE_STATE;
	m->attachment[0].bytes = sizeof(state);
	must(rep_attachment_seal(&m->attachment[0], cipher, m, &r->dek, &r->env.env, state, &err),
	     &err);
	must(rep_manifest_encode(out, m, r->signer, &err), &err);
}

static void point_commit(struct ram_fix *r, const struct rep_layer_header *h)
{
	struct rep_manifest *m = calloc(1, sizeof(*m));
	struct lb_buf *bytes = NULL;
	struct lb_err err = {0};
	struct lb_hash hash;

	LB_ASSERT(m != NULL && r->seq <= RAM_FIX_POINTS);
	uint64_t from = cpu_ns();

	point_make(r, m, h, &bytes);
	rep_manifest_hash(&hash, bytes->p, bytes->len);
	must(rep_digest_seal(r->digest, &hash, &err), &err);
	rep_shadow_seal(r->shadow, &hash);
	r->commit_ns = cpu_ns() - from;
	must(rep_store_layer_check(r->store, &m->volume[0], m, &err), &err);
	must(rep_store_append_manifest(r->store, bytes, &err), &err);
	must(rep_store_commit(r->store, &err), &err);
	from = cpu_ns();
	must(rep_digest_commit(r->digest, &hash, &err), &err);
	rep_shadow_commit(r->shadow, &hash);
	r->commit_ns += cpu_ns() - from;
	r->point[r->seq - 1] = r->head = hash;
	if (!r->unhashed)
		fake_ram_hash(r->ram, &r->image[r->seq - 1]);
	lb_buf_unref(bytes);
	free(m);
}

/* The layer of the next cut into the store. Without memory for a shadow it is done without, as the
 * engine does. */
static int layer_make(struct ram_fix *r, struct rep_layer_header *h, struct lb_err *err)
{
	bool full = lb_hash_is_zero(&r->head);
	struct emit e = {.r = r};
	/* Nonces come from several threads: the fixed environment has one. */
	struct rep_delta_cfg c = {.env = lb_env_real(),
				  .fs = r->fs,
				  .header = h,
				  .dek = &r->dek,
				  .digest = r->digest,
				  .shadow = r->shadow,
				  .workers = r->workers,
				  .emit = on_emit,
				  .arg = &e};
	uint64_t from = cpu_ns();
	int rc;

	layer_header(r, h);
	e.layer = h->layer;
	fake_ram_cut(r->ram, &c.dev, &c.changed);
	r->stage_ns = cpu_ns() - from;
	if (full)
		c.changed = NULL;
	r->store_ns = 0;
	from = cpu_ns();
	if (r->before_layer != NULL)
		r->before_layer();
	rc = rep_digest_begin(r->digest, full, err);
	if (rc == 0 && rep_shadow_begin(r->shadow, full ? NULL : &r->head, &h->layer,
					r->bytes / REP_BLOCK_BYTES, NULL) != 0)
		c.shadow = NULL;
	if (rc == 0)
		rc = rep_delta_run(&r->made, &c, err);
	r->delta_ns = cpu_ns() - from - r->store_ns;
	return rc;
}

int ram_fix_try(struct ram_fix *r, struct rep_store *store, struct lb_err *err)
{
	struct rep_layer_header h;
	int rc;

	r->store = store;
	r->seq++;
	rc = layer_make(r, &h, err);
	r->seq--;
	fake_ram_end(r->ram, false);
	return rc;
}

void ram_fix_cut(struct ram_fix *r, struct rep_store *store, bool acked)
{
	struct rep_layer_header h;
	struct lb_err err = {0};

	r->store = store;
	r->seq++;
	must(layer_make(r, &h, &err), &err);
	if (acked)
		point_commit(r, &h);
	else
		r->seq--;
	fake_ram_end(r->ram, acked);
}
