#include <inttypes.h>
#include <openssl/crypto.h>
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
#include "ident_int.h"

/*
 * One file a key, keys/<key id>.key, 92 bytes (little-endian):
 *    0  8 magic "LBKEY001"    8 16 machine    24 16 key id    40  8 made, CLOCK_REALTIME ns
 *   48 40 the key, AES-256-WRAP-PAD under the KEK    88  4 CRC32C of all before
 * A machine's current key is the newest one; files are never changed, so a crash leaves a key whole
 * or absent. The id is checked against the unwrapped key: a file under a wrong name is no key.
 */
#define MAGIC      "LBKEY001"
#define KEYS_DIR   "keys"
#define KEY_FILE   92u
#define CRC_AT     88u
#define KEYS_MAX   65536u
#define NAME_BYTES (sizeof(KEYS_DIR) + 40u)

struct entry {
	struct lb_id machine, id;
	uint64_t made_wall_ns;
	struct lb_key key;
};

struct sa_keyring {
	struct lb_env *env;
	struct lb_fs *fs;
	struct lb_key kek;
	pthread_mutex_t lock;
	struct entry *entry; /* in RAM unwrapped; wiped before it is freed */
	size_t n, cap;
};

static void file_name(char *out, const struct lb_id *id)
{
	char hex[LB_ID_TEXT];

	(void)snprintf(out, NAME_BYTES, KEYS_DIR "/%s.key", lb_id_text(id, hex));
}

/* ---- one file ---- */

static int encode(uint8_t out[KEY_FILE], const struct entry *e, const struct lb_key *kek,
		  struct lb_err *err)
{
	struct lb_wr wr = lb_wr_init(out, KEY_FILE);
	uint8_t wrapped[LB_WRAP_BYTES];
	int rc = lb_key_wrap(wrapped, kek, &e->key, err);

	if (rc != 0)
		return rc;
	lb_wr_bytes(&wr, MAGIC, 8);
	lb_wr_id(&wr, &e->machine);
	lb_wr_id(&wr, &e->id);
	lb_wr_u64le(&wr, e->made_wall_ns);
	lb_wr_bytes(&wr, wrapped, sizeof(wrapped));
	lb_wr_u32le(&wr, lb_crc32c(0, out, CRC_AT));
	return 0;
}

static int decode(struct entry *out, const char *file, const uint8_t *p, size_t len,
		  const struct lb_key *kek, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	const uint8_t *magic = lb_rd_bytes(&rd, 8), *wrapped;
	struct lb_id id;
	uint32_t crc;

	out->machine = lb_rd_id(&rd);
	out->id = lb_rd_id(&rd);
	out->made_wall_ns = lb_rd_u64le(&rd);
	wrapped = lb_rd_bytes(&rd, LB_WRAP_BYTES);
	crc = lb_rd_u32le(&rd);
	if (!lb_rd_done(&rd) || memcmp(magic, MAGIC, 8) != 0 || crc != lb_crc32c(0, p, CRC_AT))
		return lb_err_set(err, LB_ECORRUPT, 0, "%s: not a key file, or damaged", file);
	if (lb_key_unwrap(&out->key, kek, wrapped, NULL) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "%s: this site's KEK does not open it",
				  file);
	lb_key_id(&id, &out->key);
	if (!lb_id_equal(&id, &out->id))
		return lb_err_set(err, LB_ECORRUPT, 0, "%s: it holds another key than it names",
				  file);
	return 0;
}

/* ---- in RAM ---- */

static struct entry *find(struct sa_keyring *k, const struct lb_id *id)
{
	for (size_t i = 0; i < k->n; i++) {
		if (lb_id_equal(&k->entry[i].id, id))
			return &k->entry[i];
	}
	return NULL;
}

/* Newest of @machine; of two made at the same time the higher id, so that every start agrees. */
static struct entry *current(struct sa_keyring *k, const struct lb_id *machine)
{
	struct entry *best = NULL;

	for (size_t i = 0; i < k->n; i++) {
		struct entry *e = &k->entry[i];

		if (!lb_id_equal(&e->machine, machine))
			continue;
		if (best == NULL || e->made_wall_ns > best->made_wall_ns ||
		    (e->made_wall_ns == best->made_wall_ns && lb_id_compare(&e->id, &best->id) > 0))
			best = e;
	}
	return best;
}

/* Room for one more. Not realloc(): it would leave a copy of the keys in freed memory. */
static int grow(struct sa_keyring *k, struct lb_err *err)
{
	size_t cap = k->cap == 0 ? 16 : k->cap * 2;
	struct entry *bigger;

	if (k->entry != NULL && k->n < k->cap)
		return 0;
	if (k->n >= KEYS_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "more than %u data keys", KEYS_MAX);
	bigger = calloc(cap, sizeof(*bigger));
	if (bigger == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%zu data keys", cap);
	if (k->entry != NULL) {
		memcpy(bigger, k->entry, k->n * sizeof(*bigger));
		OPENSSL_cleanse(k->entry, k->n * sizeof(*bigger));
	}
	free(k->entry);
	k->entry = bigger;
	k->cap = cap;
	return 0;
}

/* Durable, then known. */
static int store(struct sa_keyring *k, const struct entry *e, struct lb_err *err)
{
	uint8_t bytes[KEY_FILE];
	char file[NAME_BYTES];
	int rc = grow(k, err);

	if (rc == 0)
		rc = encode(bytes, e, &k->kek, err);
	file_name(file, &e->id);
	if (rc == 0)
		rc = lb_fs_replace(k->fs, file, bytes, sizeof(bytes), err);
	if (rc == 0)
		k->entry[k->n++] = *e;
	return rc;
}

/* ---- open ---- */

struct scan {
	struct sa_keyring *keyring;
	struct lb_err *err;
};

static int on_name(void *arg, const char *name)
{
	struct scan *s = arg;
	struct sa_keyring *k = s->keyring;
	char file[sizeof(KEYS_DIR) + 257];
	uint8_t *p = NULL;
	size_t len = 0, n = strlen(name);
	int rc;

	if (n < 4 || strcmp(name + n - 4, ".key") != 0)
		return 0; /* what a crash left of a replace */
	(void)snprintf(file, sizeof(file), KEYS_DIR "/%s", name);
	rc = lb_fs_read_all(k->fs, file, KEY_FILE, &p, &len, s->err);
	if (rc == 0)
		rc = grow(k, s->err);
	if (rc == 0)
		rc = decode(&k->entry[k->n], file, p, len, &k->kek, s->err);
	if (rc == 0)
		k->n++;
	free(p);
	return rc;
}

int sa_keyring_open(struct sa_keyring **out, struct lb_env *env, const char *state_dir,
		    const struct lb_key *kek, struct lb_err *err)
{
	struct sa_keyring *k = calloc(1, sizeof(*k));
	struct scan scan = {.keyring = k, .err = err};
	int rc;

	if (k == NULL || pthread_mutex_init(&k->lock, NULL) != 0) {
		free(k);
		return lb_err_set(err, LB_ENOMEM, 0, "open the keys of %s", state_dir);
	}
	k->env = env;
	k->kek = *kek;
	rc = lb_fs_dir_create(&k->fs, state_dir, err);
	if (rc == 0)
		rc = lb_fs_mkdir(k->fs, KEYS_DIR, err);
	if (rc == 0)
		rc = lb_fs_sync_dir(k->fs, "", err);
	if (rc == 0)
		rc = lb_fs_list(k->fs, KEYS_DIR, on_name, &scan, err);
	if (rc != 0) {
		sa_keyring_close(k);
		return rc;
	}
	*out = k;
	return 0;
}

void sa_keyring_close(struct sa_keyring *k)
{
	if (k == NULL)
		return;
	if (k->entry != NULL)
		OPENSSL_cleanse(k->entry, k->cap * sizeof(*k->entry));
	free(k->entry);
	lb_key_wipe(&k->kek);
	lb_fs_destroy(k->fs);
	(void)pthread_mutex_destroy(&k->lock);
	free(k);
}

/* ---- use ---- */

int sa_keyring_machine_key(struct sa_keyring *k, const struct lb_id *machine, struct lb_key *out,
			   struct lb_err *err)
{
	struct entry fresh = {.machine = *machine};
	const struct entry *e;
	int rc = 0;

	(void)pthread_mutex_lock(&k->lock);
	e = current(k, machine);
	if (e == NULL) {
		fresh.made_wall_ns = k->env->wall_ns(k->env);
		lb_key_random(&fresh.key, k->env);
		lb_key_id(&fresh.id, &fresh.key);
		rc = store(k, &fresh, err);
		e = &fresh;
	}
	if (rc == 0)
		*out = e->key;
	(void)pthread_mutex_unlock(&k->lock);
	lb_key_wipe(&fresh.key);
	return rc;
}

int sa_keyring_by_id(struct sa_keyring *k, const struct lb_id *key_id, struct lb_key *out)
{
	const struct entry *e;

	(void)pthread_mutex_lock(&k->lock);
	e = find(k, key_id);
	if (e != NULL)
		*out = e->key;
	(void)pthread_mutex_unlock(&k->lock);
	return e != NULL ? 0 : LB_ENOTFOUND;
}

int sa_keyring_put(struct sa_keyring *k, const struct lb_id *machine, const struct lb_key *key,
		   struct lb_err *err)
{
	struct entry e = {.machine = *machine, .key = *key};
	const struct entry *old;
	char hex[LB_ID_TEXT];
	int rc = 0;

	lb_key_id(&e.id, key);
	(void)pthread_mutex_lock(&k->lock);
	old = find(k, &e.id);
	if (old == NULL) {
		e.made_wall_ns = k->env->wall_ns(k->env);
		rc = store(k, &e, err);
	} else if (!lb_id_equal(&old->machine, machine)) {
		rc = lb_err_set(err, LB_EEXIST, 0, "data key %s is another machine's",
				lb_id_text(&e.id, hex));
	}
	(void)pthread_mutex_unlock(&k->lock);
	lb_key_wipe(&e.key);
	return rc;
}
