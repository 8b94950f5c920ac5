/*
 * tests/e2e/source_cuts.c - drives one group of libvirt sources by commands on stdin, for
 * tests/e2e/source.sh.
 *
 *   source_cuts PLUGIN (URI DOMAIN WORK_DIR REPLICA_PREFIX)...
 *
 *   prepare              arm the mirrors
 *   cut kept|abandoned   take one cut of all; of every volume copy what changed() names (all when
 *                        unknown) into REPLICA_PREFIX.VOLUME, then compare the whole cut with it,
 *                        twice with a pause for the guest to write in between; check; release
 *   state                print the state of each
 *   quit
 *
 * With SOURCE_CUTS_ONLY_VDA in the environment only disk vda is protected. Each answers with one
 * line: "ok ..." or "err LB_NAME message".
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "siteagent/source.h"

#define CHUNK       (256u * 1024u)
#define MEMBERS_MAX 4u

struct tally {
	uint64_t bytes_copied;
	unsigned unknown; /* volumes without a changed map */
};

struct group {
	struct sa_source *member[MEMBERS_MAX];
	const char *prefix[MEMBERS_MAX];
	size_t members;
};

static uint8_t buf_a[CHUNK], buf_b[CHUNK];

static int copy_range(struct img_dev *to, struct img_dev *from, uint64_t off, uint64_t len,
		      struct lb_err *err)
{
	int rc = 0;

	for (uint64_t n; len > 0 && rc == 0; off += n, len -= n) {
		n = len < CHUNK ? len : CHUNK;
		rc = img_pread(from, buf_a, n, off, err);
		if (rc == 0)
			rc = img_pwrite(to, buf_a, n, off, err);
	}
	return rc;
}

static int copy_all(struct img_dev *to, struct img_dev *from, uint64_t *bytes, struct lb_err *err)
{
	struct img_extent e;
	int rc = 0;

	for (uint64_t off = 0; off < from->size_bytes && rc == 0; off = e.off + e.len) {
		rc = img_next_extent(from, &e, off, err);
		if (rc == 0 && e.zero)
			rc = img_zero(to, e.len, e.off, err);
		else if (rc == 0) {
			rc = copy_range(to, from, e.off, e.len, err);
			*bytes += e.len;
		}
	}
	return rc;
}

static int copy_changed(struct img_dev *to, struct img_dev *from, const struct img_extmap *m,
			uint64_t *bytes, struct lb_err *err)
{
	const struct img_run *run = img_extmap_runs(m);
	int rc = 0;

	for (size_t i = 0; i < img_extmap_count(m) && rc == 0; i++) {
		uint64_t off = run[i].start * 4096, len = run[i].count * 4096;

		if (len > from->size_bytes - off)
			len = from->size_bytes - off;
		rc = copy_range(to, from, off, len, err);
		*bytes += len;
	}
	return rc;
}

static int compare(struct img_dev *a, struct img_dev *b, struct lb_err *err)
{
	for (uint64_t off = 0; off < a->size_bytes; off += CHUNK) {
		uint64_t n = a->size_bytes - off < CHUNK ? a->size_bytes - off : CHUNK;
		int rc = img_pread(a, buf_a, n, off, err);

		if (rc == 0)
			rc = img_pread(b, buf_b, n, off, err);
		if (rc != 0)
			return rc;
		for (uint64_t i = 0; i < n; i += 4096)
			if (memcmp(buf_a + i, buf_b + i, n - i < 4096 ? n - i : 4096) != 0)
				return lb_err_set(err, LB_ECORRUPT, 0,
						  "block %" PRIu64 " of cut and replica differ",
						  (off + i) / 4096);
	}
	return 0;
}

static int open_replica(struct img_dev **out, const char *prefix, const struct sa_source_volume *v,
			struct lb_err *err)
{
	char path[4096];
	struct img_file_cfg cfg = {.path = path, .writable = true};

	(void)snprintf(path, sizeof path, "%s.%s", prefix, v->name);
	cfg.create = access(path, F_OK) != 0;
	cfg.size_bytes = v->size_bytes;
	return img_file_create(out, &cfg, err);
}

static int ship_volume(struct sa_source *s, size_t vol, const char *prefix, struct tally *t,
		       struct lb_err *err)
{
	const struct timespec pause = {.tv_nsec = 150000000};
	const struct img_extmap *changed = NULL;
	struct img_dev *cut, *replica = NULL;
	int rc = sa_source_dev(s, vol, &cut, err);

	if (rc == 0)
		rc = sa_source_changed(s, vol, &changed, err);
	if (rc == 0)
		rc = open_replica(&replica, prefix, sa_source_volume(s, vol), err);
	if (rc == 0 && changed == NULL) {
		t->unknown++;
		rc = copy_all(replica, cut, &t->bytes_copied, err);
	} else if (rc == 0) {
		rc = copy_changed(replica, cut, changed, &t->bytes_copied, err);
	}
	for (int pass = 0; pass < 2 && rc == 0; pass++) {
		rc = compare(cut, replica, err);
		(void)nanosleep(&pause, NULL); /* the guest goes on writing under the open cut */
	}
	img_dev_destroy(replica);
	return rc;
}

static int ship_member(struct sa_source *s, const char *prefix, struct tally *t, struct lb_err *err)
{
	int rc = 0;

	for (size_t v = 0; v < sa_source_volume_count(s) && rc == 0; v++)
		rc = ship_volume(s, v, prefix, t, err);
	return rc;
}

static int do_cut(struct group *g, bool kept, struct lb_err *err)
{
	struct tally t = {0};
	struct sa_cut cut;
	int rc = sa_source_cut(&cut, g->member, g->members, 2000000000, err);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < g->members && rc == 0; i++)
		rc = ship_member(g->member[i], g->prefix[i], &t, err);
	for (size_t i = 0; i < g->members && rc == 0; i++)
		rc = sa_source_check(g->member[i], err);
	for (size_t i = 0; i < g->members; i++)
		sa_source_release(g->member[i], rc == 0 && kept ? SA_CUT_KEPT : SA_CUT_ABANDONED,
				  NULL);
	if (rc == 0)
		printf("ok copied=%" PRIu64 " unknown=%u held_ms=%" PRIu64 "\n", t.bytes_copied,
		       t.unknown, cut.held_ns / 1000000);
	return rc;
}

static int prepare(struct group *g, struct lb_err *err)
{
	size_t volumes = 0, xml = 0;
	unsigned unlisted = 0;
	int rc = 0;

	for (size_t i = 0; i < g->members && rc == 0; i++) {
		rc = sa_source_prepare(g->member[i], err);
		volumes += sa_source_volume_count(g->member[i]);
		unlisted += sa_source_unlisted(g->member[i]);
		xml += rc == 0 ? strlen(sa_source_machine_xml(g->member[i])) : 0;
	}
	if (rc == 0)
		printf("ok volumes=%zu xml=%zu unlisted=%u\n", volumes, xml, unlisted);
	return rc;
}

static int command(struct group *g, const char *line, struct lb_err *err)
{
	if (strcmp(line, "prepare") == 0)
		return prepare(g, err);
	if (strcmp(line, "cut kept") == 0 || strcmp(line, "cut abandoned") == 0)
		return do_cut(g, line[4] == 'k', err);
	if (strcmp(line, "state") != 0)
		return lb_err_set(err, LB_EINPUT, 0, "unknown command %s", line);
	printf("ok");
	for (size_t i = 0; i < g->members; i++)
		printf(" %s", sa_source_state_name(sa_source_state(g->member[i])));
	printf("\n");
	return 0;
}

static int add(struct group *g, const char *plugin, char **arg, struct lb_err *err)
{
	const struct sa_source_volume only = {.name = "vda"};
	struct sa_source_cfg cfg = {.driver = "libvirt",
				    .volumes = &only,
				    .volume_count = getenv("SOURCE_CUTS_ONLY_VDA") != NULL ? 1 : 0,
				    .uri = arg[0],
				    .machine = arg[1],
				    .domain = arg[1],
				    .work_dir = arg[2],
				    .plugin = plugin};
	int rc = sa_source_create(&g->member[g->members], &cfg, err);

	g->prefix[g->members] = arg[3];
	g->members += rc == 0 ? 1 : 0;
	return rc;
}

int main(int argc, char **argv)
{
	struct group g = {.members = 0};
	struct lb_err err = {0};
	char line[128];
	int rc = 0;

	if (argc < 6 || (argc - 2) % 4 != 0 || (argc - 2) / 4 > (int)MEMBERS_MAX) {
		fprintf(stderr, "usage: source_cuts PLUGIN (URI DOMAIN WORK_DIR PREFIX)...\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN); /* as lifeboatd: a libvirtd may die under a call */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 2; i < argc && rc == 0; i += 4)
		rc = add(&g, argv[1], &argv[i], &err);
	if (rc != 0)
		printf("err %s %s\n", lb_err_name(err.code), err.msg);
	while (rc == 0 && fgets(line, sizeof line, stdin) != NULL) {
		int one;

		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "quit") == 0)
			break;
		one = command(&g, line, &err);
		if (one != 0)
			printf("err %s %s\n", lb_err_name(one), err.msg);
	}
	for (size_t i = 0; i < g.members; i++)
		sa_source_destroy(g.member[i]);
	return rc != 0;
}
