/*
 * The sources of one group as the engine's driver: begin = prepare, cut, hand over; check; end =
 * release.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "siteagent/source.h"
#include "src_int.h"

#define HOLD_DEFAULT_NS UINT64_C(50000000)

struct sa_source_group {
	struct sa_source **member;
	size_t members;
	uint64_t limit_ns;
	unsigned late;                 /* cuts in a row that did not fit the limit */
	struct rep_cut_volume *volume; /* of the open cut; as many as capacity */
	size_t capacity;
	char *json;                  /* machine_json of the open cut */
	struct rep_cut_state *state; /* of the open cut; as many as members */
	uint32_t states;
};

int sa_source_group_create(struct sa_source_group **out, struct sa_source *const *members,
			   size_t count, uint64_t limit_ns, struct lb_err *err)
{
	struct sa_source_group *g = calloc(1, sizeof *g);

	if (g != NULL) {
		g->member = calloc(count, sizeof(struct sa_source *));
		g->capacity = count * SA_SOURCE_VOLUMES_MAX;
		g->volume = calloc(g->capacity, sizeof *g->volume);
		g->state = calloc(count, sizeof *g->state);
	}
	if (g == NULL || g->member == NULL || g->volume == NULL || g->state == NULL) {
		sa_source_group_destroy(g);
		return lb_err_set(err, LB_ENOMEM, 0, "group of %zu machines", count);
	}
	for (size_t i = 0; i < count; i++)
		g->member[i] = members[i];
	g->members = count;
	g->limit_ns = limit_ns;
	*out = g;
	return 0;
}

void sa_source_group_destroy(struct sa_source_group *g)
{
	if (g == NULL)
		return;
	free(g->json);
	free(g->state);
	free(g->volume);
	free(g->member);
	free(g);
}

static int describe(struct sa_source_group *g, struct lb_err *err)
{
	json_t *list = json_array();
	json_t *all = json_pack("{s:i, s:O?}", "format", 1, "machines", list);
	char *text = NULL;
	bool ok = list != NULL && all != NULL;

	for (size_t i = 0; i < g->members && ok; i++) {
		const struct sa_source *s = g->member[i];
		json_t *m =
			json_pack("{s:s, s:s}", "name", s->cfg.machine, "driver", s->ops->driver);

		ok = m != NULL &&
		     (s->machine_xml == NULL ||
		      json_object_set_new(m, "domain_xml", json_string(s->machine_xml)) == 0);
		ok = ok && (s->cfg.address == NULL ||
			    json_object_set_new(m, "address", json_string(s->cfg.address)) == 0);
		ok = json_array_append_new(list, m) == 0 && ok;
	}
	if (ok)
		text = json_dumps(all, JSON_COMPACT);
	json_decref(list);
	json_decref(all);
	if (text == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "description of the machines");
	free(g->json);
	g->json = text;
	return 0;
}

static int hand_over(struct sa_source_group *g, struct lb_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < g->members; i++) {
		struct sa_source *s = g->member[i];

		for (size_t v = 0; v < s->volumes; v++, n++) {
			int rc = sa_source_dev(s, v, &g->volume[n].dev, err);

			if (rc == 0)
				rc = sa_source_changed(s, v, &g->volume[n].changed, err);
			g->volume[n].since = sa_source_since(s, v);
			if (rc != 0)
				return lb_err_wrap(err, rc, "machine %s", s->cfg.machine);
		}
	}
	return 0;
}

static void collect_states(struct sa_source_group *g)
{
	g->states = 0;
	for (size_t i = 0; i < g->members; i++) {
		struct sa_source *s = g->member[i];
		struct rep_cut_state *to = &g->state[g->states];

		if (s->ops->state == NULL || s->ops->state(s, &to->p, &to->bytes) == 0)
			continue;
		to->machine = s->cfg.id;
		g->states++;
	}
}

static void group_end(void *arg, struct rep_cut *cut, bool acked)
{
	struct sa_source_group *g = arg;

	for (size_t i = 0; i < g->members; i++)
		sa_source_release(g->member[i], acked ? SA_CUT_KEPT : SA_CUT_ABANDONED,
				  acked ? &cut->point : NULL);
}

/* A host too busy for the limit would give no point at all: after each miss twice the limit is
 * allowed, up to 32 times. A longer hold delays some guest writes on this host; no recovery point
 * is worse. */
static uint64_t limit_now(const struct sa_source_group *g)
{
	uint64_t limit_ns = g->limit_ns != 0 ? g->limit_ns : HOLD_DEFAULT_NS;

	return limit_ns << (g->late < 5 ? g->late : 5);
}

static int group_begin(void *arg, struct rep_cut *out, struct lb_err *err)
{
	struct sa_source_group *g = arg;
	struct sa_cut cut;
	int rc = 0;

	for (size_t i = 0; i < g->members && rc == 0; i++)
		if (sa_source_state(g->member[i]) != SA_SRC_READY)
			rc = sa_source_prepare(g->member[i], err);
	if (rc == 0)
		rc = describe(g, err);
	if (rc == 0) {
		rc = sa_source_cut(&cut, g->member, g->members, limit_now(g), err);
		g->late = rc == LB_ETIMEDOUT ? g->late + 1 : 0;
	}
	if (rc != 0)
		return rc;
	rc = hand_over(g, err);
	if (rc != 0) {
		group_end(g, NULL, false);
		return rc;
	}
	collect_states(g);
	if (g->states == g->members)
		cut.consistency = REP_CONSISTENCY_MEMORY;
	*out = (struct rep_cut){.volume = g->volume,
				.state = g->state,
				.states = g->states,
				.capture_boot_ns = cut.boot_ns,
				.capture_wall_ns = cut.wall_ns,
				.consistency = cut.consistency,
				.machine_json = g->json};
	return 0;
}

static int group_check(void *arg, struct rep_cut *cut, struct lb_err *err)
{
	struct sa_source_group *g = arg;
	int rc = 0;

	(void)cut;
	for (size_t i = 0; i < g->members && rc == 0; i++)
		rc = sa_source_check(g->member[i], err);
	return rc;
}

const struct rep_cut_ops sa_source_group_ops = {
	.begin = group_begin,
	.check = group_check,
	.end = group_end,
};

int sa_machine_xml_of(char **out, const char *machine_json, size_t len, const char *name,
		      struct lb_err *err)
{
	json_error_t je;
	json_t *all = json_loadb(machine_json, len, JSON_REJECT_DUPLICATES, &je), *m;
	size_t i;
	int rc = LB_ENOTFOUND;

	if (all == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "machine description: %.120s", je.text);
	json_array_foreach(json_object_get(all, "machines"), i, m)
	{
		const char *is = json_string_value(json_object_get(m, "name"));
		const char *xml = json_string_value(json_object_get(m, "domain_xml"));

		if (is == NULL || strcmp(is, name) != 0)
			continue;
		*out = xml != NULL ? strdup(xml) : NULL;
		rc = xml != NULL && *out == NULL ? LB_ENOMEM : 0;
		break;
	}
	json_decref(all);
	if (rc == LB_ENOTFOUND)
		return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s is not in the description",
				  name);
	return rc != 0 ? lb_err_set(err, LB_ENOMEM, 0, "description of %s", name) : 0;
}

void sa_machine_address_of(char *out, size_t out_bytes, const char *machine_json, size_t len,
			   const char *name)
{
	json_error_t je;
	json_t *all = json_loadb(machine_json, len, JSON_REJECT_DUPLICATES, &je), *m;
	unsigned char ip[16];
	size_t i;

	out[0] = '\0';
	json_array_foreach(json_object_get(all, "machines"), i, m)
	{
		const char *is = json_string_value(json_object_get(m, "name"));
		const char *text = json_string_value(json_object_get(m, "address"));

		if (is == NULL || text == NULL || strcmp(is, name) != 0)
			continue;
		if (inet_pton(AF_INET, text, ip) == 1 || inet_pton(AF_INET6, text, ip) == 1)
			(void)snprintf(out, out_bytes, "%s", text);
		break;
	}
	json_decref(all);
}
