/* The verbs that only look. */
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli_int.h"

#define CELL 128u

/* GET @path; with --json print it and set *out to NULL. */
static int get(struct cli *c, const char *path, json_t **out)
{
	int rc = cli_call(c, "GET", path, NULL, out);

	if (rc == 0 && c->json) {
		(void)cli_print_json(c, *out);
		*out = NULL;
	}
	return rc;
}

/* ---- status ---- */

static void group_row(struct cli_table *t, const json_t *g)
{
	char name[CELL], role[CELL], peer[CELL], rpo[LB_HUMAN_BYTES], epoch[24], seq[24],
		link[CELL], what[CELL];
	const json_t *newest = json_object_get(g, "newest_point");
	const json_t *progress = json_object_get(g, "progress");
	uint64_t last = newest != NULL ? cli_u64(newest, "seq") : cli_u64(g, "last_acked_seq");

	(void)snprintf(epoch, sizeof(epoch), "%" PRIu64, cli_u64(g, "epoch"));
	(void)snprintf(seq, sizeof(seq), "%" PRIu64, last);
	(void)cli_text(what, sizeof(what), json_object_get(g, "problem"), "message");
	if (what[0] == '\0' && progress != NULL) {
		double all = (double)cli_u64(progress, "all_bytes");

		(void)snprintf(what, sizeof(what), "scan %.0f %%",
			       all > 0 ? 100.0 * (double)cli_u64(progress, "done_bytes") / all
				       : 0.0);
	}
	cli_table_row(t, (const char *[]){cli_text(name, sizeof(name), g, "name"),
					  cli_text(role, sizeof(role), g, "role"), epoch,
					  cli_text(peer, sizeof(peer), g, "peer"),
					  cli_age(rpo, json_object_get(g, "rpo_ns")), seq,
					  cli_text(link, sizeof(link), g, "link"), what});
}

static void print_groups(const json_t *list)
{
	static const char *const head[] = {"GROUP", "ROLE", "EPOCH", "PEER", "RPO",
					   "SEQ",   "LINK", "NOTE",  NULL};
	struct cli_table *t = cli_table_new(head);
	size_t i;
	json_t *g;

	json_array_foreach(list, i, g)
	{
		group_row(t, g);
	}
	cli_table_print(t, stdout);
}

static void print_status(const json_t *o)
{
	char site[CELL], mode[CELL], alarm[300], up[LB_HUMAN_BYTES];

	(void)printf("site %s   %s   up %s\n", cli_text(site, sizeof(site), o, "site"),
		     cli_text(mode, sizeof(mode), o, "mode"),
		     lb_human_duration(up, cli_u64(o, "uptime_ns")));
	if (cli_text(alarm, sizeof(alarm), o, "alarm")[0] != '\0')
		(void)printf("ALARM: %s\n", alarm);
	if (!json_is_true(json_object_get(o, "enrolled")))
		(void)printf("not enrolled: `lifeboat site init` or `lifeboat site join`\n");
	print_groups(json_object_get(o, "groups"));
}

/* An agent that is started again must not end who watches it: once it has answered, a watcher waits
 * for it, and says so once. */
static bool waits(struct cli *c, int rc, bool *answered)
{
	if (rc == 0)
		*answered = true;
	if (rc == 0 || !*answered || lb_err_class(rc) != LB_CLASS_RETRY)
		return false;
	if (strcmp(c->waiting, c->err.msg) != 0)
		(void)fprintf(stderr, "lifeboat: %s: %s; waiting\n", lb_err_name(rc), c->err.msg);
	(void)snprintf(c->waiting, sizeof(c->waiting), "%s", c->err.msg);
	(void)poll(NULL, 0, 1000);
	return true;
}

int cli_status(struct cli *c)
{
	bool answered = false;

	for (;;) {
		json_t *o = NULL;
		int rc = get(c, "/v1/status", &o);

		if (c->watch && waits(c, rc, &answered))
			continue;
		if (rc != 0)
			return rc;
		if (c->watch && !c->plain && !c->json && isatty(1) != 0)
			(void)fputs("\033[H\033[J", stdout);
		if (o != NULL)
			print_status(o);
		json_decref(o);
		(void)fflush(stdout);
		if (!c->watch)
			return 0;
		(void)poll(NULL, 0, 1000);
	}
}

/* An event as a person hears it best: when, how bad, what; then its fields. The date stands before
 * the first of each @day: what is old is not taken for news. */
static void print_plain(const json_t *e, char day[LB_HUMAN_BYTES])
{
	char when[LB_HUMAN_BYTES], level[CELL], comp[CELL], ev[CELL], line[2048];
	const char *rest;

	(void)cli_text(line, sizeof(line), e, "line");
	rest = strstr(line, " ev=");
	rest = rest != NULL ? strchr(rest + 1, ' ') : NULL;
	(void)lb_human_wall(when, cli_u64(e, "wall_ns"));
	when[strcspn(when, " ")] = '\0';
	if (strcmp(when, day) != 0)
		(void)printf("%s ", when);
	(void)snprintf(day, LB_HUMAN_BYTES, "%s", when);
	(void)printf("%s %s %s %s%s", lb_human_clock(when, cli_u64(e, "wall_ns")),
		     cli_text(level, sizeof(level), e, "level"),
		     cli_text(comp, sizeof(comp), e, "comp"), cli_text(ev, sizeof(ev), e, "ev"),
		     rest != NULL ? rest : "");
}

/* One line per event, for screen readers and logs; goes on until interrupted (--once: ends with the
 * newest). */
int cli_watch(struct cli *c)
{
	uint64_t after;
	char path[64], line[2048], day[LB_HUMAN_BYTES] = "";
	size_t i, n;
	json_t *o, *e;
	bool answered = false;
	int rc = cli_count(c, "--after", c->after, 0, &after);

	while (rc == 0) {
		(void)snprintf(path, sizeof(path), "/v1/events?after=%" PRIu64, after);
		rc = cli_call(c, "GET", path, NULL, &o);
		if (!c->once && waits(c, rc, &answered)) {
			rc = 0;
			continue;
		}
		if (rc != 0)
			return rc;
		json_array_foreach(json_object_get(o, "events"), i, e)
		{
			after = cli_u64(e, "n");
			if (c->json)
				(void)json_dumpf(e, stdout, JSON_COMPACT | JSON_SORT_KEYS);
			else if (c->plain)
				print_plain(e, day);
			else
				(void)fputs(cli_text(line, sizeof(line), e, "line"), stdout);
			(void)fputc('\n', stdout);
		}
		n = json_array_size(json_object_get(o, "events"));
		json_decref(o);
		(void)fflush(stdout);
		if (c->once && n == 0)
			return 0;
		if (n == 0)
			(void)poll(NULL, 0, 500);
	}
	return rc;
}

int cli_doctor(struct cli *c)
{
	json_t *o = NULL, *k;
	size_t i;
	char name[CELL], text[400];
	bool ok;
	int rc = cli_call(c, "GET", "/v1/doctor", NULL, &o);

	if (rc != 0)
		return rc;
	ok = json_is_true(json_object_get(o, "ok"));
	if (c->json) {
		(void)cli_print_json(c, json_incref(o));
	} else {
		json_array_foreach(json_object_get(o, "checks"), i, k)
		{
			(void)printf("%-4s %-16s %s\n",
				     json_is_true(json_object_get(k, "ok")) ? "ok" : "BAD",
				     cli_text(name, sizeof(name), k, "check"),
				     cli_text(text, sizeof(text), k, "text"));
		}
	}
	json_decref(o);
	return ok ? 0 : lb_err_set(&c->err, LB_EIO, 0, "a check is BAD");
}

/* ---- lists ---- */

int cli_site_list(struct cli *c)
{
	static const char *const head[] = {"SITE", "ID", "ADDRESS", "LINK", "NOTE", NULL};
	char name[CELL], id[CELL], addr[CELL], link[CELL], note[300];
	struct cli_table *t;
	json_t *o = NULL, *s;
	size_t i;
	int rc = get(c, "/v1/sites", &o);

	if (rc != 0 || o == NULL)
		return rc;
	t = cli_table_new(head);
	json_array_foreach(json_object_get(o, "sites"), i, s)
	{
		bool self = json_is_true(json_object_get(s, "self"));

		/* who ships to us has no link of ours, but a connection */
		if (cli_text(link, sizeof(link), s, "link")[0] == '\0')
			(void)cli_text(link, sizeof(link), s, "inbound");
		(void)cli_text(note, sizeof(note), json_object_get(s, "problem"), "message");
		cli_table_row(t, (const char *[]){cli_text(name, sizeof(name), s, "name"),
						  cli_text(id, sizeof(id), s, "id"),
						  self ? "(this site)"
						       : cli_text(addr, sizeof(addr), s, "address"),
						  link, note});
	}
	cli_table_print(t, stdout);
	json_decref(o);
	return 0;
}

int cli_machine_list(struct cli *c)
{
	static const char *const head[] = {"MACHINE", "GROUP", "DRIVER", "STATE", "RPO", NULL};
	char name[CELL], group[CELL], driver[CELL], state[CELL], rpo[LB_HUMAN_BYTES];
	struct cli_table *t;
	json_t *o = NULL, *m;
	size_t i;
	int rc = get(c, "/v1/machines", &o);

	if (rc != 0 || o == NULL)
		return rc;
	t = cli_table_new(head);
	json_array_foreach(json_object_get(o, "machines"), i, m)
	{
		cli_table_row(t, (const char *[]){cli_text(name, sizeof(name), m, "name"),
						  cli_text(group, sizeof(group), m, "group"),
						  cli_text(driver, sizeof(driver), m, "driver"),
						  cli_text(state, sizeof(state), m, "state"),
						  cli_age(rpo, json_object_get(m, "rpo_ns"))});
	}
	cli_table_print(t, stdout);
	json_decref(o);
	return 0;
}

int cli_group_list(struct cli *c)
{
	json_t *o = NULL;
	int rc = get(c, "/v1/groups", &o);

	if (rc == 0 && o != NULL)
		print_groups(json_object_get(o, "groups"));
	json_decref(o);
	return rc;
}

static void join_marks(char *out, size_t cap, const json_t *marks)
{
	size_t i, n = 0;
	json_t *m;

	out[0] = '\0';
	json_array_foreach(marks, i, m)
	{
		int k = snprintf(out + n, cap - n, "%s%s", n > 0 ? "," : "", json_string_value(m));

		n += k > 0 && (size_t)k < cap - n ? (size_t)k : 0;
	}
}

int cli_point_list(struct cli *c)
{
	static const char *const head[] = {"POINT", "GROUP",  "SEQ",   "CAPTURED",
					   "CLASS", "STORED", "MARKS", NULL};
	char path[CLI_PART_BYTES + 64], of[CLI_PART_BYTES], id[CELL], group[CELL], seq[24],
		when[LB_HUMAN_BYTES], cls[CELL], size[LB_HUMAN_BYTES], marks[CELL];
	struct cli_table *t;
	json_t *o = NULL, *p;
	size_t i;
	uint64_t max;
	int rc = cli_count(c, "--max", c->max, 20, &max);

	if (rc != 0)
		return rc;
	(void)snprintf(path, sizeof(path), "/v1/points?max=%" PRIu64 "%s%s", max,
		       c->group != NULL ? "&group=" : "",
		       cli_part(of, c->group != NULL ? c->group : ""));
	rc = get(c, path, &o);
	if (rc != 0 || o == NULL)
		return rc;
	t = cli_table_new(head);
	json_array_foreach(json_object_get(o, "points"), i, p)
	{
		(void)cli_text(id, 13, p, "id");
		(void)snprintf(seq, sizeof(seq), "%" PRIu64, cli_u64(p, "seq"));
		join_marks(marks, sizeof(marks), json_object_get(p, "marks"));
		cli_table_row(t, (const char *[]){
					 id, cli_text(group, sizeof(group), p, "group"), seq,
					 lb_human_wall(when, cli_u64(p, "captured_wall_ns")),
					 cli_text(cls, sizeof(cls), p, "consistency"),
					 lb_human_bytes(size, cli_u64(p, "stored_bytes")), marks});
	}
	cli_table_print(t, stdout);
	json_decref(o);
	return 0;
}

int cli_point_show(struct cli *c)
{
	char path[CLI_PATH_BYTES], a[CELL], b[CELL], kind[CELL], size[LB_HUMAN_BYTES],
		layer[LB_HUMAN_BYTES], when[LB_HUMAN_BYTES];
	json_t *o = NULL, *v;
	size_t i;
	int rc;

	cli_point_path(c, path, "");
	rc = get(c, path, &o);
	if (rc != 0 || o == NULL)
		return rc;
	(void)printf("point     %s\n", cli_text(a, sizeof(a), o, "id"));
	(void)printf("group     %s   epoch %" PRIu64 "   seq %" PRIu64 "\n",
		     cli_text(a, sizeof(a), o, "group"), cli_u64(o, "epoch"), cli_u64(o, "seq"));
	(void)printf("captured  %s   consistency %s\n",
		     lb_human_wall(when, cli_u64(o, "captured_wall_ns")),
		     cli_text(a, sizeof(a), o, "consistency"));
	(void)printf("base      %s\n", cli_text(a, sizeof(a), o, "base"));
	json_array_foreach(json_object_get(o, "volumes"), i, v)
	{
		(void)printf("volume    %s/%s   %s   %s   layer %s\n",
			     cli_text(a, sizeof(a), v, "machine"),
			     cli_text(b, sizeof(b), v, "volume"),
			     cli_text(kind, sizeof(kind), v, "kind"),
			     lb_human_bytes(size, cli_u64(v, "size_bytes")),
			     lb_human_bytes(layer, cli_u64(v, "layer_bytes")));
	}
	json_decref(o);
	return 0;
}

int cli_catalog_dump(struct cli *c)
{
	json_t *o = NULL;
	int rc = get(c, "/v1/catalog/dump", &o);

	if (rc == 0 && o != NULL)
		(void)fputs(json_string_value(json_object_get(o, "dump")), stdout);
	json_decref(o);
	return rc;
}

int cli_runbook_list(struct cli *c)
{
	static const char *const head[] = {"RUNBOOK", "CHANGED", "FILE", NULL};
	char name[CELL], when[LB_HUMAN_BYTES], path[400];
	struct cli_table *t;
	json_t *o = NULL, *b;
	size_t i;
	int rc = get(c, "/v1/runbooks", &o);

	if (rc != 0 || o == NULL)
		return rc;
	t = cli_table_new(head);
	json_array_foreach(json_object_get(o, "runbooks"), i, b)
	{
		cli_table_row(t,
			      (const char *[]){cli_text(name, sizeof(name), b, "name"),
					       lb_human_wall(when, cli_u64(b, "changed_wall_ns")),
					       cli_text(path, sizeof(path), b, "path")});
	}
	cli_table_print(t, stdout);
	json_decref(o);
	return 0;
}
