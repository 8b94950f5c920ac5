#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/rd.h"
#include "base/wr.h"
#include "roles_int.h"

/*
 * One file per group, two slots. Slot layout (little-endian), the rest of the 4096 bytes is zero:
 *    0  8 magic "LBROLE01"     8  8 generation      16 16 group        32  4 role       36  4 zero
 *   40  8 epoch   48 8 lineage  56 16 writer   72 32 applied   104 32 acked   136 8 acked_seq
 *  144  8 changed_wall_ns  152  2+n name  ..  2+n why  ..  4 CRC32C of all before, at 4092
 */
#define MAGIC      "LBROLE01"
#define SLOT_BYTES 4096u
#define CRC_AT     (SLOT_BYTES - 4u)
#define ROLES_MAX  8192u

struct entry {
	struct sa_role_record rec;
	uint64_t generation;
	unsigned slot; /* that holds it; the next write goes to the other */
};

struct sa_roles {
	struct lb_env *env;
	struct lb_fs *fs;
	pthread_mutex_t lock;
	struct entry *entry;
	size_t n;
};

const char *sa_role_name(enum sa_role r)
{
	static const char *const names[] = {"UNPAIRED",  "BACKUP", "ACQUIRING",   "PRIMARY",
					    "QUIESCING", "FENCED", "REPROTECTING"};

	return (unsigned)r < sizeof(names) / sizeof(names[0]) ? names[r] : "?";
}

enum epoch_rule {
	SAME,
	UP,
	ANY
};

static const struct {
	enum sa_role from, to;
	enum epoch_rule epoch;
} transitions[] = {
#define X(from, to, epoch, why) {SA_ROLE_##from, SA_ROLE_##to, epoch},
#include "roles.def"
#undef X
};

static int check_transition(const struct sa_role_record *old, const struct sa_role_record *new,
			    struct lb_err *err)
{
	if (new->epoch < old->epoch)
		return lb_err_set(err, LB_EFENCED, 0,
				  "group %s: epoch %" PRIu64 " is below %" PRIu64 " on record",
				  new->name, new->epoch, old->epoch);
	for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++) {
		if (transitions[i].from != old->role || transitions[i].to != new->role)
			continue;
		if (transitions[i].epoch == ANY ||
		    (transitions[i].epoch == UP) == (new->epoch > old->epoch))
			return 0;
	}
	return lb_err_set(err, LB_EINVAL, 0,
			  "group %s may not go from %s at epoch %" PRIu64 " to %s at %" PRIu64,
			  new->name, sa_role_name(old->role), old->epoch, sa_role_name(new->role),
			  new->epoch);
}

/* ---- slots ---- */

static void encode(uint8_t out[SLOT_BYTES], const struct entry *e)
{
	struct lb_wr wr = lb_wr_init(out, CRC_AT);
	const struct sa_role_record *r = &e->rec;
	uint32_t crc;

	memset(out, 0, SLOT_BYTES);
	lb_wr_bytes(&wr, MAGIC, 8);
	lb_wr_u64le(&wr, e->generation);
	lb_wr_id(&wr, &r->group);
	lb_wr_u32le(&wr, (uint32_t)r->role);
	lb_wr_u32le(&wr, 0);
	lb_wr_u64le(&wr, r->epoch);
	lb_wr_u64le(&wr, r->lineage);
	lb_wr_id(&wr, &r->writer);
	lb_wr_hash(&wr, &r->applied);
	lb_wr_hash(&wr, &r->acked);
	lb_wr_u64le(&wr, r->acked_seq);
	lb_wr_u64le(&wr, r->changed_wall_ns);
	lb_wr_str16(&wr, r->name);
	lb_wr_str16(&wr, r->why);
	crc = lb_crc32c(0, out, CRC_AT);
	wr = lb_wr_init(out + CRC_AT, 4);
	lb_wr_u32le(&wr, crc);
}

static bool decode(struct entry *out, const uint8_t in[SLOT_BYTES])
{
	struct lb_rd rd = lb_rd_init(in, CRC_AT), tail = lb_rd_init(in + CRC_AT, 4);
	struct sa_role_record *r = &out->rec;
	const uint8_t *magic = lb_rd_bytes(&rd, 8);
	uint32_t role;

	if (memcmp(magic, MAGIC, 8) != 0 || lb_rd_u32le(&tail) != lb_crc32c(0, in, CRC_AT))
		return false;
	out->generation = lb_rd_u64le(&rd);
	r->group = lb_rd_id(&rd);
	role = lb_rd_u32le(&rd);
	(void)lb_rd_u32le(&rd);
	r->epoch = lb_rd_u64le(&rd);
	r->lineage = lb_rd_u64le(&rd);
	r->writer = lb_rd_id(&rd);
	r->applied = lb_rd_hash(&rd);
	r->acked = lb_rd_hash(&rd);
	r->acked_seq = lb_rd_u64le(&rd);
	r->changed_wall_ns = lb_rd_u64le(&rd);
	lb_rd_str16(&rd, r->name, sizeof(r->name));
	lb_rd_str16(&rd, r->why, sizeof(r->why));
	if (rd.bad || role > SA_ROLE_REPROTECTING)
		return false;
	r->role = (enum sa_role)role;
	return true;
}

static void path_of(const struct lb_id *group, char out[64])
{
	char hex[LB_ID_TEXT];

	(void)snprintf(out, 64, "roles/%s", lb_id_text(group, hex));
}

/* ---- opening ---- */

static struct entry *add(struct sa_roles *r)
{
	struct entry *grown;

	if (r->n >= ROLES_MAX)
		return NULL;
	grown = realloc(r->entry, (r->n + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	r->entry = grown;
	grown[r->n] = (struct entry){.slot = 1};
	return &grown[r->n++];
}

struct opening {
	struct sa_roles *roles;
	struct lb_err *err;
};

static int load_one(void *arg, const char *name)
{
	struct opening *o = arg;
	struct entry e[2], *into;
	uint8_t slot[SLOT_BYTES];
	struct lb_file *f = NULL;
	char path[64];
	bool ok[2] = {false, false};
	size_t got;
	int rc;

	if (strlen(name) != LB_ID_TEXT - 1)
		return 0; /* not a record of ours */
	(void)snprintf(path, sizeof(path), "roles/%.40s", name);
	rc = lb_fs_open(o->roles->fs, &f, path, LB_FS_READ, o->err);
	for (unsigned i = 0; i < 2 && rc == 0; i++) {
		memset(slot, 0, sizeof(slot));
		rc = lb_file_pread(f, slot, SLOT_BYTES, (uint64_t)i * SLOT_BYTES, &got, o->err);
		memset(&e[i], 0, sizeof(e[i]));
		ok[i] = rc == 0 && decode(&e[i], slot);
		e[i].slot = i;
	}
	lb_file_close(f);
	if (rc != 0)
		return rc;
	/* A record is written before it is acted on, so a file without any valid slot was never
	 * acted on: but then it must be the torn first write. Anything else is damage that must not
	 * be taken for "no role". */
	if (!ok[0] && !ok[1])
		return lb_err_set(o->err, LB_ECORRUPT, 0, "role record %s has no valid copy", path);
	into = add(o->roles);
	if (into == NULL)
		return lb_err_set(o->err, LB_ENOMEM, 0, "role records");
	*into = ok[0] && (!ok[1] || e[0].generation > e[1].generation) ? e[0] : e[1];
	return 0;
}

int sa_roles_open(struct sa_roles **out, struct lb_env *env, struct lb_fs *fs, struct lb_err *err)
{
	struct sa_roles *r = calloc(1, sizeof(*r));
	struct opening o = {.roles = r, .err = err};
	int rc;

	if (r == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "role records");
	r->env = env;
	r->fs = fs;
	(void)pthread_mutex_init(&r->lock, NULL);
	rc = lb_fs_mkdir(fs, "roles", err);
	if (rc == 0) /* a record in a directory whose name is lost is lost too */
		rc = lb_fs_sync_dir(fs, "", err);
	if (rc == 0)
		rc = lb_fs_list(fs, "roles", load_one, &o, err);
	if (rc != 0) {
		sa_roles_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

void sa_roles_close(struct sa_roles *r)
{
	if (r == NULL)
		return;
	(void)pthread_mutex_destroy(&r->lock);
	free(r->entry);
	free(r);
}

/* ---- reading ---- */

static struct entry *find(struct sa_roles *r, const struct lb_id *group)
{
	for (size_t i = 0; i < r->n; i++)
		if (lb_id_equal(&r->entry[i].rec.group, group))
			return &r->entry[i];
	return NULL;
}

bool sa_role_get(struct sa_roles *r, const struct lb_id *group, struct sa_role_record *out)
{
	struct entry *e;

	(void)pthread_mutex_lock(&r->lock);
	e = find(r, group);
	if (e != NULL)
		*out = e->rec;
	(void)pthread_mutex_unlock(&r->lock);
	return e != NULL;
}

bool sa_role_by_name(struct sa_roles *r, const char *name, struct sa_role_record *out)
{
	bool found = false;

	(void)pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < r->n && !found; i++)
		if (strcmp(r->entry[i].rec.name, name) == 0) {
			*out = r->entry[i].rec;
			found = true;
		}
	(void)pthread_mutex_unlock(&r->lock);
	return found;
}

size_t sa_roles_count(struct sa_roles *r)
{
	size_t n;

	(void)pthread_mutex_lock(&r->lock);
	n = r->n;
	(void)pthread_mutex_unlock(&r->lock);
	return n;
}

bool sa_roles_at(struct sa_roles *r, size_t i, struct sa_role_record *out)
{
	bool ok;

	(void)pthread_mutex_lock(&r->lock);
	ok = i < r->n;
	if (ok)
		*out = r->entry[i].rec;
	(void)pthread_mutex_unlock(&r->lock);
	return ok;
}

/* ---- writing ---- */

/* The first record of a group goes to a new file whose name must survive too: written whole, then
 * renamed. */
static int write_first(struct sa_roles *r, const struct entry *e, struct lb_err *err)
{
	uint8_t both[2 * SLOT_BYTES] = {0};
	char path[64];

	encode(both, e);
	path_of(&e->rec.group, path);
	return lb_fs_replace(r->fs, path, both, sizeof(both), err);
}

static int write_slot(struct sa_roles *r, const struct entry *e, struct lb_err *err)
{
	uint8_t slot[SLOT_BYTES];
	struct lb_file *f = NULL;
	char path[64];
	int rc;

	encode(slot, e);
	path_of(&e->rec.group, path);
	rc = lb_fs_open(r->fs, &f, path, LB_FS_WRITE, err);
	if (rc == 0)
		rc = lb_file_pwrite(f, slot, SLOT_BYTES, (uint64_t)e->slot * SLOT_BYTES, err);
	if (rc == 0)
		rc = lb_file_sync(f, err);
	lb_file_close(f);
	return rc;
}

static int set_locked(struct sa_roles *r, const struct sa_role_record *rec, struct lb_err *err)
{
	static const struct sa_role_record unpaired = {.role = SA_ROLE_UNPAIRED};
	struct entry *e = find(r, &rec->group), next;
	int rc = check_transition(e != NULL ? &e->rec : &unpaired, rec, err);

	if (rc != 0)
		return rc;
	next = (struct entry){.rec = *rec, .generation = 1};
	next.rec.changed_wall_ns = r->env->wall_ns(r->env);
	if (e == NULL) {
		rc = write_first(r, &next, err);
		if (rc == 0) {
			e = add(r);
			rc = e == NULL ? lb_err_set(err, LB_ENOMEM, 0, "role records") : 0;
		}
	} else {
		next.generation = e->generation + 1;
		next.slot = 1 - e->slot;
		rc = write_slot(r, &next, err);
	}
	if (rc == 0)
		*e = next;
	return rc;
}

int sa_role_set(struct sa_roles *r, const struct sa_role_record *rec, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&r->lock);
	rc = set_locked(r, rec, err);
	(void)pthread_mutex_unlock(&r->lock);
	return rc;
}
