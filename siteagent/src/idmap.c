#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/fs.h"

#define IDMAP_FILE "ids.json"
#define IDMAP_MAX  (4u << 20)

struct sa_idmap {
	struct lb_env *env;
	struct lb_fs *fs;
	json_t *ids;
};

int sa_idmap_open(struct sa_idmap **out, struct lb_env *env, struct lb_fs *fs, struct lb_err *err)
{
	struct sa_idmap *m = calloc(1, sizeof(*m));
	struct lb_err why = {0};
	uint8_t *text = NULL;
	size_t len = 0;
	json_error_t je;
	int rc;

	if (m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "id map");
	m->env = env;
	m->fs = fs;
	rc = lb_fs_read_all(fs, IDMAP_FILE, IDMAP_MAX, &text, &len, &why);
	if (rc == LB_ENOTFOUND) {
		m->ids = json_object();
		rc = 0;
	} else if (rc == 0) {
		m->ids = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, &je);
		if (!json_is_object(m->ids))
			rc = lb_err_set(err, LB_ECORRUPT, 0, "%s line %d: %s", IDMAP_FILE, je.line,
					je.text);
	} else if (err != NULL) {
		*err = why;
	}
	if (rc == 0 && m->ids == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "id map");
	if (rc == 0) {
		*out = m;
		m = NULL;
	}
	free(text);
	sa_idmap_close(m);
	return rc;
}

void sa_idmap_close(struct sa_idmap *m)
{
	if (m == NULL)
		return;
	json_decref(m->ids);
	free(m);
}

static int save(struct sa_idmap *m, struct lb_err *err)
{
	char *text = json_dumps(m->ids, JSON_INDENT(1) | JSON_SORT_KEYS);
	int rc;

	if (text == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "id map");
	rc = lb_fs_replace(m->fs, IDMAP_FILE, text, strlen(text), err);
	free(text);
	return rc;
}

int sa_idmap_get(struct sa_idmap *m, const char *path, struct lb_id *out, struct lb_err *err)
{
	const char *text = json_string_value(json_object_get(m->ids, path));
	char fresh[LB_ID_TEXT];
	struct lb_id id;
	int rc;

	if (text != NULL)
		return lb_id_parse(out, text, err);
	lb_id_random(&id, m->env);
	if (json_object_set_new(m->ids, path, json_string(lb_id_text(&id, fresh))) != 0)
		return lb_err_set(err, LB_ENOMEM, 0, "id of %s", path);
	rc = save(m, err);
	if (rc != 0) {
		(void)json_object_del(m->ids, path);
		return rc;
	}
	*out = id;
	return 0;
}
