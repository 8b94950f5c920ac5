#include "view_point.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "replicator/view.h"

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

void view_point_init(struct view_point *v, uint32_t blocks, uint64_t seed)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct lb_err err = {0};

	*v = (struct view_point){.env = fix_env(seed + 1)};
	(void)snprintf(v->dir, sizeof(v->dir), "/tmp/lb_view_XXXXXX");
	assert_non_null(mkdtemp(v->dir));
	(void)snprintf(v->map, sizeof(v->map), "map=%s/viewmap", v->dir);
	(void)snprintf(v->store, sizeof(v->store), "store=%s", v->dir);
	(void)snprintf(v->keyfile, sizeof(v->keyfile), "keyfile=%s/keys", v->dir);
	sf_group_init(&v->group, 0, 1, blocks, seed);
	must(lb_fs_dir_create(&v->fs, v->dir, &err), &err);
	must(rep_store_open(&v->open, &v->env.env, v->fs, &cfg, &err), &err);
}

void view_point_dirty_all(struct view_point *v)
{
	for (uint32_t i = 0; i < v->group.vol[0].blocks; i++)
		v->group.vol[0].dirty[i] = true;
}

void view_point_send(struct view_point *v)
{
	struct lb_err err = {0};

	sf_point_free(&v->point);
	sf_point_cut(&v->group, &v->point);
	must(sf_point_send(v->open, &v->point, &err), &err);
	must(rep_store_commit(v->open, &err), &err);
	sf_point_accepted(&v->group, &v->point);
}

void view_point_ready(struct view_point *v)
{
	struct lb_err err = {0};

	must(rep_view_prepare(v->open, &v->point.hash, &v->group.vol[0].volume, v->fs, "viewmap",
			      &err),
	     &err);
	rep_store_close(v->open);
	v->open = NULL;
	lb_fs_destroy(v->fs);
	v->fs = NULL;
}

void view_point_keys(const struct view_point *v, mode_t mode)
{
	const char *path = v->keyfile + strlen("keyfile=");
	char id[LB_ID_TEXT];
	struct lb_id key_id;
	FILE *f;

	(void)unlink(path);
	f = fopen(path, "we");
	assert_non_null(f);
	lb_key_id(&key_id, &v->group.dek);
	(void)fprintf(f, "# data keys\n%s ", lb_id_text(&key_id, id));
	for (unsigned i = 0; i < LB_KEY_BYTES; i++)
		(void)fprintf(f, "%02x", v->group.dek.b[i]);
	(void)fprintf(f, "\n");
	assert_int_equal(fchmod(fileno(f), mode), 0);
	assert_int_equal(fclose(f), 0);
}

int view_point_serve(struct view_point *v, const char *plugin)
{
	const char *const args[] = {plugin, v->map, v->store, v->keyfile, NULL};

	return nbdkit_start(&v->server, args);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void view_point_fini(struct view_point *v)
{
	if (v->server.dir[0] != '\0')
		nbdkit_stop(&v->server);
	rep_store_close(v->open);
	lb_fs_destroy(v->fs);
	sf_point_free(&v->point);
	sf_group_fini(&v->group);
	assert_int_equal(nftw(v->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}
