/* What the UI shows is so, or is said to be old or unknown; and what is done is done to what was
 * shown, by whom saw it. */
#include <inttypes.h>
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "tui_world.h"

#define S UINT64_C(1000000000)

static const char *agent;

static void start(struct tui_world *w)
{
	tw_init(w, agent, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(w, 2 * S);
}

static void shows(struct tui_world *w, const char *text)
{
	if (!tw_shows(w, text)) {
		ui_grid_print(&w->grid, stderr);
		fail_msg("not on the screen: %s", text);
	}
}

static void shows_not(struct tui_world *w, const char *text)
{
	if (tw_shows(w, text)) {
		ui_grid_print(&w->grid, stderr);
		fail_msg("on the screen: %s", text);
	}
}

static void keys(struct tui_world *w, const char *text)
{
	for (; *text != '\0'; text++) {
		tw_key(w, *text == '\n'  ? (uint32_t)UI_K_ENTER
			  : *text == '>' ? (uint32_t)UI_K_DOWN
			  : *text == '!' ? (uint32_t)UI_K_ESC
					 : (uint32_t)*text);
		tw_pass(w, S / 4);
	}
}

/* A file of the agent, to be changed. */
static json_t *answer_of(const char *name)
{
	char path[600];
	json_t *o;

	(void)snprintf(path, sizeof(path), "%s/%s.json", agent, name);
	o = json_load_file(path, 0, NULL);
	assert_non_null(o);
	return o;
}

/* From now on @path is answered with @body; NULL: LB_ENOTFOUND. */
static void answers(struct tui_world *w, const char *path, const json_t *body)
{
	w->override_path = path;
	w->override_body = body;
}

/* ---- a site without a name ---- */

/* Where the name that must be typed is not known, nothing asks for it, and nothing leaves. */
static void test_no_site_name(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "6\n");
	(void)json_object_set_new(status, "site", json_string(""));
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	keys(&w, "X\n!>>s\n!sby hand\n\n\n");
	assert_int_equal(w.acts, 0);
	json_decref(status);
	tw_fini(&w);
}

/* ---- late answers ---- */

/* Time passes, and what is asked is not answered. */
static void silence(struct tui_world *w, uint64_t ns)
{
	for (uint64_t t = 0; t < ns; t += S / 4) {
		struct ui_input in = {.kind = UI_IN_TICK};
		struct ui_orders out;

		in.now_ns = w->now_ns += S / 4;
		in.wall_ns = w->wall_ns += S / 4;
		ui_app_step(w->app, &in, &out);
	}
}

/* An RPO that nobody confirms grows; the groups are not called protected any more. */
static void test_rpo_grows(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	(void)json_array_remove(json_object_get(status, "groups"), 1);
	start(&w);
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	shows(&w, "YES: 2 of 2 groups");
	shows(&w, "Worst RPO          1.2 s (erp)");
	w.away = true;
	tw_pass(&w, 30 * S);
	shows(&w, "NO ANSWER FOR");
	shows(&w, "UNKNOWN: no answer for");
	shows_not(&w, "YES:");
	shows_not(&w, "1.2 s");
	shows(&w, "Worst RPO          3"); /* seconds */
	shows_not(&w, "820 ms");
	keys(&w, "2");
	shows_not(&w, "lag 1.2 s");
	shows_not(&w, "lag 820 ms");
	keys(&w, "3");
	tw_pass(&w, 10 * S);
	shows_not(&w, "820 ms");
	w.away = false;
	keys(&w, "1");
	tw_pass(&w, 6 * S);
	shows(&w, "Worst RPO          1.2 s (erp)");
	json_decref(status);
	tw_fini(&w);
}

/* One that takes the question and says nothing, not even an error. */
static void test_silent_agent(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	shows(&w, " DRILL ");
	silence(&w, 12 * S);
	shows(&w, "NO ANSWER FOR");
	shows(&w, "UNKNOWN: no answer for");
	tw_fini(&w);
}

/* Away from the terminal (an editor, Ctrl-Z) is not the agent's silence. */
static void test_back_from_the_editor(void **state)
{
	struct ui_input in = {.kind = UI_IN_EDITED};
	struct ui_orders out;
	struct tui_world w;

	(void)state;
	start(&w);
	in.now_ns = w.now_ns += 600 * S;
	in.wall_ns = w.wall_ns += 600 * S;
	ui_app_step(w.app, &in, &out);
	shows_not(&w, "NO ANSWER FOR");
	tw_fini(&w);
}

/* The wizard tells what would be lost as it is now. */
static void test_lost_grows(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "5>F");
	shows(&w, "erp: 1.2 s");
	w.away = true;
	tw_pass(&w, 20 * S);
	shows_not(&w, "erp: 1.2 s");
	tw_fini(&w);
}

/* All must have answered before nothing needs anybody. */
static void test_needs_unknown(void **state)
{
	json_t *status = answer_of("status"), *doctor = answer_of("doctor");
	char dir[] = "/tmp/lbtruth.XXXXXX", path[64];
	struct tui_world w;

	(void)state;
	(void)json_array_remove(json_object_get(status, "groups"), 1);
	(void)json_array_remove(json_object_get(doctor, "checks"), 1);
	start(&w);
	answers(&w, "/v1/doctor", doctor);
	tw_pass(&w, 12 * S);
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	shows(&w, "What needs me?     nothing");
	tw_fini(&w);

	assert_non_null(mkdtemp(dir)); /* the agent answers its status, and nothing else */
	(void)snprintf(path, sizeof(path), "%s/status.json", dir);
	assert_int_equal(json_dump_file(status, path, 0), 0);
	tw_init(&w, dir, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(&w, 3 * S);
	shows(&w, "YES: 2 of 2");
	shows(&w, "What needs me?     ? not all is known yet");
	tw_fini(&w);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	json_decref(status);
	json_decref(doctor);
}

/* ---- answers that are none ---- */

/* An object that has nothing of a status is not the news that there are no groups. */
static void test_not_an_answer(void **state)
{
	static const char *const bodies[] = {"{}", "{\"groups\": 7, \"mode\": \"NORMAL\"}",
					     "{\"groups\": []}", "{\"error\": {}}"};
	struct tui_world w;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		json_t *body = json_loads(bodies[i], 0, NULL);

		start(&w);
		answers(&w, "/v1/status", body);
		tw_pass(&w, 10 * S);
		shows(&w, "NO ANSWER FOR");
		shows(&w, "the answer is not about what was asked");
		shows(&w, ">erp");
		json_decref(body);
		tw_fini(&w);
	}
}

/* What is asked once is not asked at every step because its answer is none. */
static void test_no_answer_is_not_hurried(void **state)
{
	json_t *body = json_object();
	struct tui_world w;
	unsigned before;

	(void)state;
	start(&w);
	answers(&w, "/v1/runbooks/files-only", body);
	keys(&w, "5");
	before = w.asked;
	tw_pass(&w, 20 * S);
	assert_true(w.asked - before <= 20 + 14 + 5 + 5); /* status, events, runbooks, its text */
	json_decref(body);
	tw_fini(&w);
}

/* ---- what is said ---- */

/* A list that is not answered any more says how old it is, in each view that shows it. */
static void test_old_lists(void **state)
{
	static const struct {
		const char *view, *path, *name;
	} lists[] = {
		{"1", "/v1/doctor", "doctor"},
		{"2", "/v1/sites", "sites"},
		{"3", "/v1/machines", "machines"},
		{"4", "/v1/points?max=200", "points"},
		{"5", "/v1/runbooks", "runbooks"},
		{"6\n", "/v1/runs/7f3e9a1c000000000000000000000000", "run"},
		{"6\n>", "/v1/runs/7f3e9a1c000000000000000000000000/console?machine=erp-db",
		 "console"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct tui_world w;
		char words[80];

		start(&w);
		keys(&w, lists[i].view);
		tw_pass(&w, 5 * S);
		shows_not(&w, "as they were");
		answers(&w, lists[i].path, NULL);
		tw_pass(&w, 30 * S);
		(void)snprintf(words, sizeof(words), "! %s: as they were ", lists[i].name);
		shows(&w, words);
		shows(&w, "no such thing");
		answers(&w, NULL, NULL);
		tw_pass(&w, 12 * S);
		shows_not(&w, "as they were");
		tw_fini(&w);
	}
}

/* A filter that stands does not hide what became of a request. */
static void test_filter_hides_no_message(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	w.refuse = true;
	keys(&w, "4/erp\nv\n");
	assert_int_equal(w.acts, 1);
	shows(&w, "/erp");
	shows(&w, "✗ verify point 7f87e4c9be64: no such thing");
	keys(&w, "!");
	shows(&w, "/erp");
	shows_not(&w, "✗ verify point");
	w.away = true;
	tw_pass(&w, 10 * S);
	shows(&w, "no agent answers");
	tw_fini(&w);
}

/* A refusal is read whole. */
static void test_long_refusal(void **state)
{
	static const char message[] =
		"run 7f3e9a1c (failover) fails over machines of the same group; continue or cancel "
		"it first, then start this one again: THE END";
	struct ui_input in = {.kind = UI_IN_ANSWER, .rc = -1, .message = message, .hint = "HINT"};
	struct tui_world w;
	struct ui_orders out;
	struct ui_input enter = {.kind = UI_IN_KEY, .key = UI_K_ENTER};

	(void)state;
	start(&w);
	keys(&w, "4v");
	enter.now_ns = in.now_ns = w.now_ns;
	enter.wall_ns = in.wall_ns = w.wall_ns;
	ui_app_step(w.app, &enter, &out);
	for (size_t i = 0; i < out.count; i++)
		in.id = out.item[i].acts ? out.item[i].id : in.id;
	ui_app_step(w.app, &in, &out);
	shows(&w, "END - HINT");
	shows(&w, "run 7f3e9a1c (failover)");
	keys(&w, "!");
	shows_not(&w, "HINT");
	keys(&w, "l");
	shows(&w, "$ lifeboat point verify");
	shows(&w, "END - HINT");
	tw_fini(&w);
}

/* ---- the wizard ---- */

/* A runbook that is changed while it is looked at is looked at again; what is started is what was
 * seen. */
static void test_changed_under_the_wizard(void **state)
{
	json_t *books = answer_of("runbooks"), *book = answer_of("runbooks_tokyo-to-osaka");
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "5>F\n\n\ntokyo");
	shows(&w, "4/4");
	(void)json_object_set_new(json_array_get(json_object_get(books, "runbooks"), 1),
				  "changed_wall_ns", json_integer(1795618800000000000));
	answers(&w, "/v1/runbooks", books); /* touched, but it reads as before */
	tw_pass(&w, 7 * S);
	shows(&w, "Type tokyo to do it: tokyo");
	(void)json_object_set_new(book, "text", json_string("another: text"));
	answers(&w, "/v1/runbooks/tokyo-to-osaka", book);
	tw_pass(&w, 7 * S); /* the list is as it was: changed again */
	shows(&w, "1/4");
	shows(&w, "the runbook was changed just now");
	keys(&w, "\n");
	assert_int_equal(w.acts, 0);
	keys(&w, "\n\n\n");
	assert_int_equal(w.acts, 0); /* the name is typed again */
	keys(&w, "tokyo\n");
	assert_int_equal(w.acts, 1);
	assert_non_null(strstr(w.act[0].body, "another: text"));
	json_decref(books);
	json_decref(book);
	tw_fini(&w);
}

/* In no window can a failover be agreed to whose command and question are not on the screen. */
static void test_confirm_is_seen(void **state)
{
	(void)state;
	for (int h = 8; h <= 16; h++)
		for (int columns = 30; columns <= 90; columns += 5) {
			struct tui_world w;
			bool seen;

			tw_init(&w, agent, &(const struct ui_app_cfg){.socket = NULL}, columns, h);
			tw_pass(&w, 2 * S);
			keys(&w, "5>F\n\n\n");
			seen = tw_shows(&w, "Type tokyo to do it:") && tw_shows(&w, "$ lifeboat") &&
			       tw_shows(&w, "--confirm");
			keys(&w, "tokyo\n");
			assert_int_equal(w.acts, seen ? 1 : 0);
			tw_fini(&w);
		}
}

/* An agent that is away says nothing about a runbook. */
static void test_no_agent_is_no_problem(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	answers(&w, "/v1/runbooks/plan", NULL);
	keys(&w, "5>");
	tw_pass(&w, 3 * S);
	shows_not(&w, "Problems");
	shows(&w, "no such thing");
	keys(&w, "F\n\n\ntokyo\n");
	shows_not(&w, "has problems");
	assert_int_equal(w.acts, 0);
	tw_fini(&w);
}

/* A group whose point is not there is not one that loses nothing. */
static void test_nothing_to_fail_over_to(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	(void)json_object_del(json_array_get(json_object_get(status, "groups"), 0), "newest_point");
	start(&w);
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	keys(&w, "5>F");
	shows(&w, "erp: no recovery point is here");
	shows_not(&w, "newest point: 0");
	json_decref(status);
	tw_fini(&w);
}

/* What has no room on a page is announced, and reached. */
static void test_more_below(void **state)
{
	json_t *plan = answer_of("runbooks_plan"), *status = answer_of("status");
	json_t *groups = json_object_get(status, "groups");
	struct tui_world w;
	char name[16];

	(void)state;
	for (int i = 0; i < 20; i++) {
		json_t *g = json_deep_copy(json_array_get(groups, 0));

		(void)snprintf(name, sizeof(name), "group-%02d", i);
		(void)json_object_set_new(g, "name", json_string(name));
		(void)json_array_append_new(groups, g);
	}
	(void)json_array_clear(json_object_get(plan, "groups")); /* all of the site */
	start(&w);
	keys(&w, "5>");
	tw_pass(&w, 2 * S);
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	answers(&w, "/v1/runbooks/plan", plan);
	keys(&w, "r");
	answers(&w, "/v1/status", status);
	keys(&w, "F");
	tw_pass(&w, 2 * S);
	shows(&w, "erp: 1.2 s");
	shows(&w, "more below");
	shows_not(&w, "group-19");
	for (int i = 0; i < 200; i++)
		tw_key(&w, UI_K_DOWN);
	free(tw_screen(&w));
	shows_not(&w, "more below");
	for (int i = 0; i < 6; i++)
		tw_key(&w, UI_K_UP);
	shows(&w, "group-19");
	json_decref(plan);
	json_decref(status);
	tw_fini(&w);
}

static void alive(const char *change, const char *key, const char *value, const char *shown)
{
	json_t *sites = answer_of("sites"),
	       *site = json_array_get(json_object_get(sites, "sites"), 1);
	struct tui_world w;

	if (value != NULL)
		(void)json_object_set_new(site, key, json_string(value));
	if (change != NULL)
		(void)json_object_del(site, change);
	start(&w);
	answers(&w, "/v1/sites", sites);
	tw_pass(&w, 4 * S);
	keys(&w, "5>F\n");
	shows(&w, shown);
	json_decref(sites);
	tw_fini(&w);
}

/* Who is alive: what was seen, of the site that is meant. */
static void test_alive(void **state)
{
	struct tui_world w;

	(void)state;
	alive(NULL, NULL, NULL, "! tokyo is connected to this site now");
	alive("inbound", NULL, NULL, "tokyo was not connected since this agent's start");
	alive("inbound", "link", "up", "! tokyo is connected to this site now");
	alive(NULL, "inbound", "down", "tokyo is not connected, since");
	alive(NULL, "name", "kyoto", "? tokyo is no peer of this site");

	start(&w); /* and when that was long ago */
	keys(&w, "5>F\n");
	shows(&w, "! tokyo is connected to this site now");
	answers(&w, "/v1/sites", NULL);
	tw_pass(&w, 20 * S);
	shows(&w, "? tokyo: not known yet");
	tw_fini(&w);
}

/* Many machines: none is left out unsaid. */
static void test_many_machines(void **state)
{
	json_t *machines = answer_of("machines"), *list = json_object_get(machines, "machines");
	struct tui_world w;
	char name[80];

	(void)state;
	for (int i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "machine-number-%02d", i);
		(void)json_array_append_new(list,
					    json_pack("{s:s, s:s}", "name", name, "group", "erp"));
	}
	start(&w);
	answers(&w, "/v1/machines", machines);
	keys(&w, "3");
	tw_pass(&w, 4 * S);
	keys(&w, "5>F");
	shows(&w, "of erp-db");
	shows(&w, "more");
	json_decref(machines);
	tw_fini(&w);
}

/* ---- what is acted on is what was seen ---- */

/* The row under the cursor stays under it, also the first. */
static void test_first_row_stays(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	(void)json_array_insert_new(json_object_get(status, "groups"), 0,
				    json_pack("{s:s, s:s}", "name", "aaa", "role", "BACKUP"));
	start(&w);
	shows(&w, ">erp");
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	shows(&w, " aaa ");
	shows(&w, ">erp");
	json_decref(status);
	tw_fini(&w);
}

/* A newer point comes between the frame and the key: the one that was seen is verified. */
static void test_key_means_what_was_drawn(void **state)
{
	json_t *points = answer_of("points"), *list = json_object_get(points, "points");
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "4");
	shows(&w, ">17e3b2baf838");
	(void)json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "id", "beefbeefbeefbeef",
						    "group", "erp", "captured_wall_ns",
						    (json_int_t)1795618808000000000));
	answers(&w, "/v1/points?max=200", points);
	tw_pass(&w, 4 * S); /* it is known, and not drawn yet */
	tw_key(&w, 'v');
	shows(&w, "$ lifeboat point verify 17e3b2baf838");
	keys(&w, "!");
	shows(&w, ">beefbeefbeef"); /* then the newest is under the cursor */
	tw_key(&w, 'v');
	shows(&w, "$ lifeboat point verify beefbeefbeef");
	json_decref(points);
	tw_fini(&w);
}

/* What was seen has gone: what stands there now was not meant. */
static void test_row_that_has_gone(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	(void)json_object_set_new(json_array_get(json_object_get(status, "groups"), 1), "machines",
				  json_array());
	start(&w);
	answers(&w, "/v1/status", status);
	keys(&w, "1>>");
	shows(&w, ">web");
	(void)json_array_remove(json_object_get(status, "groups"), 2);
	tw_pass(&w, 2 * S);
	tw_key(&w, 'c');
	shows_not(&w, "group cut");
	shows(&w, ">files"); /* it is seen now */
	tw_key(&w, 'c');
	shows(&w, "group cut files");
	json_decref(status);
	tw_fini(&w);
}

/* Two machines of one name, of two groups: the cursor gets past the first. */
static void test_same_names(void **state)
{
	json_t *machines = answer_of("machines"), *list = json_object_get(machines, "machines");
	struct tui_world w;

	(void)state;
	(void)json_array_insert_new(list, 1,
				    json_pack("{s:s, s:s}", "name", "erp-db", "group", "files"));
	start(&w);
	answers(&w, "/v1/machines", machines);
	keys(&w, "3");
	tw_pass(&w, 4 * S);
	shows(&w, ">erp-db");
	keys(&w, ">");
	shows(&w, "── files ");
	keys(&w, ">");
	shows(&w, ">受注サーバー");
	json_decref(machines);
	tw_fini(&w);
}

/* ---- requests ---- */

/* What was accepted is not done, and what is not answered is not forgotten. */
static void test_accepted_is_not_done(void **state)
{
	struct ui_input enter = {.kind = UI_IN_KEY, .key = UI_K_ENTER};
	struct ui_orders out;
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "1>>c\n");
	shows(&w, "take a recovery point of web now: accepted");
	shows_not(&w, "done");
	keys(&w, "!c");
	enter.now_ns = w.now_ns;
	enter.wall_ns = w.wall_ns;
	ui_app_step(w.app, &enter, &out);
	silence(&w, 25 * S);
	shows(&w, "! take a recovery point of web now: not answered yet");
	tw_fini(&w);
}

/* ---- events ---- */

/* The oldest come first, 500 at a time: they are not the newest for as long as that takes. */
static void test_newest_events_soon(void **state)
{
	json_t *list = json_array(), *page = json_pack("{s:o}", "events", list);
	struct tui_world w;

	(void)state;
	for (int n = 1; n <= 500; n++)
		(void)json_array_append_new(list, json_pack("{s:i, s:s, s:s}", "n", n, "ev",
							    "of_last_year", "line", "x"));
	tw_init_away(&w, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	keys(&w, "8");
	w.dir = agent;
	w.away = false;
	answers(&w, "/v1/events?after=0", page);
	for (int i = 0; i < 40 && !tw_shows(&w, "of_last_year") && !tw_shows(&w, "part_corrupt");
	     i++)
		tw_pass(&w, S / 4);
	shows(&w, "part_corrupt"); /* in the same moment */
	json_decref(page);
	tw_fini(&w);
}

/* "Show the whole event" shows the whole event; the log, the whole answer. */
static void test_whole_lines(void **state)
{
	char line[400] = "ts=1 ev=long ";
	json_t *events;
	struct tui_world w;

	(void)state;
	for (int i = 0; i < 20; i++)
		(void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "field%02d=value ",
			       i);
	(void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "THE-END");
	events =
		json_pack("{s:[{s:i, s:s, s:s}]}", "events", "n", 1000, "ev", "long", "line", line);
	start(&w);
	answers(&w, "/v1/events?after=7", events);
	keys(&w, "8");
	tw_pass(&w, 3 * S);
	tw_size(&w, 60, 15);
	keys(&w, "/field00\n\n");
	shows(&w, "field00=value");
	shows(&w, "THE-END");
	json_decref(events);
	tw_fini(&w);
}

/* ---- hints and titles ---- */

/* Whose console it is, of which run, and whether it is its end. */
static void test_console_title(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "9");
	tw_pass(&w, 2 * S);
	shows(&w, "erp-db: serial console, run 7f3e9a1c (drill) ──");
	shows(&w, "s screen"); /* without view 3 */
	shows(&w, "n next machine");
	tw_key(&w, UI_K_PAGE_UP);
	shows(&w, " newer lines below: ");
	keys(&w, "n");
	shows(&w, "old-crm: serial console");
	tw_fini(&w);
}

/* Nothing is offered that is refused, or does nothing. */
static void test_offers(void **state)
{
	json_t *run = answer_of("runs_7f3e9a1c000000000000000000000000");
	json_t *machines = answer_of("machines");
	json_t *first = json_array_get(json_object_get(machines, "machines"), 0);
	struct tui_world w;

	(void)state;
	(void)json_object_del(json_array_get(json_object_get(run, "steps"), 2), "boot");
	start(&w);
	answers(&w, "/v1/runs/7f3e9a1c000000000000000000000000", run);
	keys(&w, "9");
	tw_pass(&w, 2 * S);
	shows(&w, "erp-db: serial console");
	shows_not(&w, "next machine"); /* there is no other */
	tw_fini(&w);

	(void)json_object_del(first, "run"); /* it runs here, booted by no run */
	tw_init(&w, agent, &(const struct ui_app_cfg){.read_only = true}, 80, 24);
	answers(&w, "/v1/machines", machines);
	tw_pass(&w, 2 * S);
	keys(&w, "3");
	tw_pass(&w, 4 * S);
	shows(&w, ">erp-db");
	shows_not(&w, "Enter console");
	json_decref(run);
	json_decref(machines);
	tw_fini(&w);
}

/* A terminal wider than what is drawn is no small one, and no dialog is answered unseen there. */
static void test_vast_terminal(void **state)
{
	struct tui_world w;

	(void)state;
	tw_init(&w, agent, &(const struct ui_app_cfg){.socket = NULL}, 1200, 1100);
	tw_pass(&w, 2 * S);
	shows(&w, "Am I protected?");
	shows_not(&w, "enlarge");
	tw_fini(&w);
}

/* ---- who is active, what is wrong ---- */

/* A site whose name is part of another's is a site. */
static void test_peers_by_name(void **state)
{
	json_t *status = answer_of("status"), *groups = json_object_get(status, "groups");
	struct tui_world w;

	(void)state;
	(void)json_object_set_new(json_array_get(groups, 0), "peer", json_string("tokyo-east"));
	(void)json_object_set_new(json_array_get(groups, 2), "role", json_string("ACQUIRING"));
	(void)json_object_del(json_array_get(groups, 2), "machines");
	start(&w);
	answers(&w, "/v1/status", status);
	tw_pass(&w, 2 * S);
	shows(&w, "tokyo-east tokyo, 3 groups");
	shows(&w, "! web is ACQUIRING here"); /* not: its newest point is too old */
	json_decref(status);
	tw_fini(&w);
}

/* An event of another day is not one of tonight. */
static void test_events_of_other_days(void **state)
{
	json_t *events = json_pack("{s:[{s:i, s:I, s:s, s:s}]}", "events", "n", 1000, "wall_ns",
				   (json_int_t)1795359600000000000, "ev", "old_news", "line", "x");
	struct tui_world w;

	(void)state;
	start(&w);
	answers(&w, "/v1/events?after=7", events);
	keys(&w, "8");
	shows(&w, " 14:57:11  "); /* of today */
	tw_pass(&w, 3 * S);
	keys(&w, "/old_news\n");
	shows(&w, "2026-11-22 15:00:00");
	json_decref(events);
	tw_fini(&w);
}

/* No dialog is answered whose command is cut. */
static void test_dialog_is_seen(void **state)
{
	(void)state;
	for (int h = 8; h <= 14; h += 2)
		for (int columns = 30; columns <= 80; columns += 10)
			for (int words = 1; words < 12; words += 5) {
				struct tui_world w;
				bool seen;

				tw_init(&w, agent, &(const struct ui_app_cfg){.socket = NULL},
					columns, h);
				tw_pass(&w, 2 * S);
				keys(&w, "6\n>>s");
				for (int i = 0; i < words; i++)
					tw_type(&w, "it was done by ");
				keys(&w, "hand");
				seen = tw_shows(&w, "$ lifeboat") && tw_shows(&w, "hand'");
				keys(&w, "\n");
				keys(&w, seen ? "osaka" : "");
				seen = seen && tw_shows(&w, "--confirm") &&
				       tw_shows(&w, "Type osaka to do it:");
				keys(&w, "\n");
				assert_int_equal(w.acts, seen ? 1 : 0);
				tw_fini(&w);
			}
}

/* ---- what has no room, what is not known ---- */

/* Lines that have no room are counted, and it is said where they are. */
static void test_no_room(void **state)
{
	json_t *plan = answer_of("runbooks_plan"), *steps = json_object_get(plan, "steps");
	json_t *status = answer_of("status"), *groups = json_object_get(status, "groups");
	json_t *point = answer_of(
		"points_17e3b2baf838abababababababababababababababababababababababababab");
	json_t *volumes = json_object_get(point, "volumes");
	struct tui_world w;

	(void)state;
	for (int i = 0; i < 30; i++) {
		(void)json_array_append_new(steps, json_deep_copy(json_array_get(steps, 1)));
		(void)json_array_append_new(groups, json_deep_copy(json_array_get(groups, 1)));
		(void)json_array_append_new(volumes, json_deep_copy(json_array_get(volumes, 0)));
	}
	start(&w);
	answers(&w, "/v1/runbooks/plan", plan);
	keys(&w, "5>");
	tw_pass(&w, S);
	shows(&w, "more: `:runbook plan`");
	answers(&w, "/v1/status", status);
	keys(&w, "2");
	tw_pass(&w, 2 * S);
	shows(&w, "more: view 1");
	answers(&w, "/v1/points/17e3b2baf838abababababababababababababababababababababababababab",
		point);
	keys(&w, "4");
	tw_pass(&w, S);
	shows(&w, "! and 29 more: `:point show`");
	json_decref(plan);
	json_decref(status);
	json_decref(point);
	tw_fini(&w);
}

/* What is not known is no 0, and what has not come is not empty. */
static void test_unknown_is_not_zero(void **state)
{
	json_t *status = answer_of("status");
	struct tui_world w;

	(void)state;
	(void)json_object_del(json_array_get(json_object_get(status, "groups"), 0), "newest_point");
	start(&w);
	answers(&w, "/v1/status", status);
	keys(&w, "3");
	tw_pass(&w, 2 * S);
	shows(&w, "newest is -");
	answers(&w, "/v1/points/17e3b2baf838abababababababababababababababababababababababababab",
		NULL);
	keys(&w, "4");
	tw_pass(&w, S);
	shows(&w, "── Holds");
	shows(&w, "no answer yet");
	json_decref(status);
	tw_fini(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_site_name),
		cmocka_unit_test(test_rpo_grows),
		cmocka_unit_test(test_silent_agent),
		cmocka_unit_test(test_back_from_the_editor),
		cmocka_unit_test(test_lost_grows),
		cmocka_unit_test(test_needs_unknown),
		cmocka_unit_test(test_not_an_answer),
		cmocka_unit_test(test_no_answer_is_not_hurried),
		cmocka_unit_test(test_old_lists),
		cmocka_unit_test(test_filter_hides_no_message),
		cmocka_unit_test(test_long_refusal),
		cmocka_unit_test(test_changed_under_the_wizard),
		cmocka_unit_test(test_confirm_is_seen),
		cmocka_unit_test(test_no_agent_is_no_problem),
		cmocka_unit_test(test_nothing_to_fail_over_to),
		cmocka_unit_test(test_more_below),
		cmocka_unit_test(test_alive),
		cmocka_unit_test(test_many_machines),
		cmocka_unit_test(test_first_row_stays),
		cmocka_unit_test(test_key_means_what_was_drawn),
		cmocka_unit_test(test_row_that_has_gone),
		cmocka_unit_test(test_same_names),
		cmocka_unit_test(test_accepted_is_not_done),
		cmocka_unit_test(test_newest_events_soon),
		cmocka_unit_test(test_whole_lines),
		cmocka_unit_test(test_console_title),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_vast_terminal),
		cmocka_unit_test(test_peers_by_name),
		cmocka_unit_test(test_events_of_other_days),
		cmocka_unit_test(test_dialog_is_seen),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_unknown_is_not_zero),
	};

	if (argc < 2)
		return 2;
	agent = argv[1];
	(void)setenv("TZ", "UTC", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
