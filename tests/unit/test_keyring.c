/* Data keys of machines: made once, kept wrapped, found again; damage and foreign KEKs are told. */
#include <ftw.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "ident_int.h"

struct world {
	char dir[64];
	struct fix_env env;
	struct lb_key kek;
	struct sa_keyring *ring;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void reopen(struct world *w)
{
	struct lb_err err = {0};

	sa_keyring_close(w->ring);
	w->ring = NULL;
	must(sa_keyring_open(&w->ring, &w->env.env, w->dir, &w->kek, &err), &err);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-keyring-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->env = fix_env(7);
	lb_key_random(&w->kek, &w->env.env);
	reopen(w);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *w = *state;

	sa_keyring_close(w->ring);
	assert_int_equal(nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(w);
	return 0;
}

static void path_of(char *out, size_t cap, const struct world *w, const struct lb_key *k)
{
	struct lb_id id;
	char hex[LB_ID_TEXT];

	lb_key_id(&id, k);
	(void)snprintf(out, cap, "%s/keys/%s.key", w->dir, lb_id_text(&id, hex));
}

static size_t read_file(const char *path, uint8_t *out, size_t cap)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, cap, f);
	assert_int_equal(fclose(f), 0);
	return n;
}

static void write_file(const char *path, const uint8_t *p, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void test_made_once(void **state)
{
	struct world *w = *state;
	struct lb_id a = fix_id(1), b = fix_id(2), id;
	struct lb_key ka, kb, again;
	struct lb_err err = {0};

	must(sa_keyring_machine_key(w->ring, &a, &ka, &err), &err);
	must(sa_keyring_machine_key(w->ring, &b, &kb, &err), &err);
	assert_memory_not_equal(&ka, &kb, sizeof(ka));
	for (int pass = 0; pass < 2; pass++) {
		must(sa_keyring_machine_key(w->ring, &a, &again, &err), &err);
		assert_memory_equal(&ka, &again, sizeof(ka));
		lb_key_id(&id, &kb);
		assert_int_equal(sa_keyring_by_id(w->ring, &id, &again), 0);
		assert_memory_equal(&kb, &again, sizeof(kb));
		reopen(w);
	}
	id = fix_id(3);
	assert_int_equal(sa_keyring_by_id(w->ring, &id, &again), LB_ENOTFOUND);
}

/* The file is the owner's only and does not hold the key in clear. */
static void test_file(void **state)
{
	struct world *w = *state;
	struct lb_id a = fix_id(1);
	struct lb_key k;
	uint8_t bytes[128];
	char path[160];
	struct stat st;
	size_t n;

	assert_int_equal(sa_keyring_machine_key(w->ring, &a, &k, NULL), 0);
	path_of(path, sizeof(path), w, &k);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	n = read_file(path, bytes, sizeof(bytes));
	assert_int_equal(n, 92);
	assert_memory_equal(bytes, "LBKEY001", 8);
	assert_null(memmem(bytes, n, k.b, 16));
	assert_null(memmem(bytes, n, k.b + 16, 16));
}

static void test_put(void **state)
{
	struct world *w = *state;
	struct lb_id a = fix_id(1), b = fix_id(2), id;
	struct lb_key k = fix_key(), got;
	struct lb_err err = {0};

	must(sa_keyring_put(w->ring, &a, &k, &err), &err);
	must(sa_keyring_put(w->ring, &a, &k, &err), &err); /* idempotent */
	assert_int_equal(sa_keyring_put(w->ring, &b, &k, &err), LB_EEXIST);
	reopen(w);
	lb_key_id(&id, &k);
	assert_int_equal(sa_keyring_by_id(w->ring, &id, &got), 0);
	assert_memory_equal(&k, &got, sizeof(k));
	must(sa_keyring_machine_key(w->ring, &a, &got, &err),
	     &err); /* a failed-over machine goes on */
	assert_memory_equal(&k, &got, sizeof(k));
}

static void test_many(void **state)
{
	struct world *w = *state;
	struct lb_key k[40], got;

	for (unsigned i = 0; i < 40; i++) {
		struct lb_id m = fix_id(i + 1);

		assert_int_equal(sa_keyring_machine_key(w->ring, &m, &k[i], NULL), 0);
	}
	reopen(w);
	for (unsigned i = 0; i < 40; i++) {
		struct lb_id m = fix_id(i + 1);

		assert_int_equal(sa_keyring_machine_key(w->ring, &m, &got, NULL), 0);
		assert_memory_equal(&k[i], &got, sizeof(got));
	}
}

static void open_refused(struct world *w, const char *says)
{
	struct sa_keyring *ring = NULL;
	struct lb_err err = {0};

	assert_int_equal(sa_keyring_open(&ring, &w->env.env, w->dir, &w->kek, &err), LB_ECORRUPT);
	if (strstr(err.msg, says) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", says, err.msg);
	assert_null(ring);
}

/* Every bit of a file matters. */
static void test_damage(void **state)
{
	struct world *w = *state;
	struct lb_id a = fix_id(1);
	struct lb_key k;
	uint8_t bytes[92];
	char path[160];

	assert_int_equal(sa_keyring_machine_key(w->ring, &a, &k, NULL), 0);
	path_of(path, sizeof(path), w, &k);
	assert_int_equal(read_file(path, bytes, sizeof(bytes)), 92);
	for (size_t bit = 0; bit < 92 * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		write_file(path, bytes, sizeof(bytes));
		open_refused(w, "damaged");
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	for (size_t len = 0; len < 92; len++) {
		write_file(path, bytes, len);
		open_refused(w, "not a key file");
	}
	write_file(path, bytes, sizeof(bytes));
	w->kek.b[0] ^= 1;
	open_refused(w, "KEK does not open it");
	w->kek.b[0] ^= 1;
	reopen(w);
}

/* A crash in the middle of a replace leaves a .tmp, which is no key. */
static void test_left_over(void **state)
{
	struct world *w = *state;
	char path[160];

	(void)snprintf(path, sizeof(path), "%s/keys/0011.key.tmp", w->dir);
	write_file(path, (const uint8_t *)"half", 4);
	reopen(w);
}

struct racer {
	struct world *w;
	struct lb_key got[20];
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (unsigned i = 0; i < 20; i++) {
		struct lb_id m = fix_id(i + 1);

		if (sa_keyring_machine_key(r->w->ring, &m, &r->got[i], NULL) != 0)
			abort();
	}
	return NULL;
}

/* Several threads that ask for the same new keys get the same ones. */
static void test_threads(void **state)
{
	static struct racer r[4];
	pthread_t t[4];

	for (int i = 0; i < 4; i++) {
		r[i].w = *state;
		assert_int_equal(pthread_create(&t[i], NULL, race, &r[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	for (int i = 1; i < 4; i++)
		assert_memory_equal(r[0].got, r[i].got, sizeof(r[0].got));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_made_once), T(test_file),      T(test_put),     T(test_many),
		T(test_damage),    T(test_left_over), T(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
