/* The UI's core: what leaves and when (U1 to U3 of ui-tui/app.h), and what it does when the agent
 * is away, refuses, or answers nonsense. */
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>

#include "check.h"
#include "text_int.h"
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
	char *screen = tw_screen(w);

	if (strstr(screen, text) == NULL)
		fail_msg("not on the screen: %s\n%s", text, screen);
	free(screen);
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

/* ---- before the first answer, and without one ---- */

static void test_first_frame(void **state)
{
	struct tui_world w;

	(void)state;
	tw_init_away(&w, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	shows(&w, "q quit");
	tw_fini(&w);
}

/* What nobody has answered is not known: no view says "none" or "never" for it. */
static void test_nothing_known(void **state)
{
	struct tui_world w;
	static const char *const claims[] = {"never",        " yet: ",   "no protection group",
					     "no machine",   "keeps no", "was run",
					     "no event yet", "no *.yaml"};

	(void)state;
	tw_init_away(&w, &(const struct ui_app_cfg){.socket = NULL}, 80, 24);
	tw_pass(&w, 3 * S);
	for (char view = '1'; view <= '8'; view++) {
		const char key[2] = {view, '\0'};

		tw_type(&w, key);
		tw_pass(&w, S);
		shows(&w, "no answer yet");
		for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
			if (tw_shows(&w, claims[i]))
				fail_msg("view %c claims \"%s\" though nobody answered", view,
					 claims[i]);
	}
	tw_fini(&w);
}

static void test_agent_away(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	w.away = true;
	tw_pass(&w, 30 * S);
	shows(&w, "NO ANSWER FOR");
	shows(&w, "no agent answers");
	shows(&w, "erp"); /* old truth stays */
	w.away = false;
	tw_pass(&w, 5 * S);
	assert_false(tw_shows(&w, "NO ANSWER"));
	tw_fini(&w);
}

/* An agent in trouble is not hurried: at most one question of a kind in two seconds. */
static void test_pace(void **state)
{
	struct tui_world w;
	unsigned before;

	(void)state;
	start(&w);
	w.away = true;
	tw_pass(&w, 4 * S);
	before = w.asked;
	tw_pass(&w, 60 * S);
	assert_true(w.asked - before <= 4 * 31);
	w.away = false;
	tw_pass(&w, 4 * S);
	before = w.asked;
	tw_pass(&w, 60 * S);
	assert_true(w.asked - before <= 60 + 40 + 20 + 8); /* status, events, sites, doctor */
	tw_fini(&w);
}

/* Why nobody answers is read to its end: there stands what to do. */
static void test_why_nobody_answers(void **state)
{
	static const char message[] = "no agent answers on /run/lifeboat/control.sock (Connection "
				      "refused); is lifeboatd running?";
	struct ui_input tick = {.kind = UI_IN_TICK};
	struct ui_orders out;
	struct tui_world w;
	uint64_t id[16];
	size_t n = 0;

	(void)state;
	start(&w);
	tick.now_ns = w.now_ns += 20 * S;
	tick.wall_ns = w.wall_ns += 20 * S;
	ui_app_step(w.app, &tick, &out);
	for (; n < out.count && n < 16; n++)
		id[n] = out.item[n].id;
	while (n-- > 0) {
		struct ui_input in = {.kind = UI_IN_ANSWER,
				      .rc = -1,
				      .id = id[n],
				      .message = message,
				      .now_ns = w.now_ns,
				      .wall_ns = w.wall_ns};

		ui_app_step(w.app, &in, &out);
	}
	shows(&w, "no agent answers on /run/lifeboat/control.sock");
	shows(&w, "running?");
	tw_fini(&w);
}

/* ---- U1: dangerous only with the typed name ---- */

static void test_failover(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "5>F\n\n\n\n");
	assert_int_equal(w.acts, 0); /* Enter alone never does it */
	keys(&w, "osaka\n");
	assert_int_equal(w.acts, 0);
	shows(&w, "what is typed is not the name: tokyo");
	tw_key(&w, UI_K_CTRL('u'));
	keys(&w, "tokyo");
	shows(&w, "$ lifeboat run start /etc/lifeboat/runbooks/tokyo-to-osaka.yaml --confirm");
	assert_int_equal(w.acts, 0);
	keys(&w, "\n");
	assert_int_equal(w.acts, 1);
	assert_string_equal(w.act[0].path, "/v1/runs");
	assert_non_null(strstr(w.act[0].body, "\"confirm\":\"tokyo\""));
	assert_non_null(strstr(w.act[0].body, "\"mode\":\"failover\""));
	tw_pass(&w, 2 * S);
	shows(&w, "7f3e9a1c tokyo-to-osaka"); /* the run is opened */
	tw_fini(&w);
}

static void test_skip(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "6\n>>s\n\n  \n");
	assert_int_equal(w.acts, 0);
	shows(&w, "say why"); /* the agent takes none without a reason */
	keys(&w, "it's done by hand\n\n");
	assert_int_equal(w.acts, 0);
	shows(&w, "--reason '  it'\\''s done by hand'");
	keys(&w, "osaka\n");
	assert_int_equal(w.acts, 1);
	assert_string_equal(w.act[0].body, "{\"command\":\"skip\",\"confirm\":\"osaka\","
					   "\"reason\":\"  it's done by hand\",\"step\":\"crm\"}");
	tw_fini(&w);
}

static void test_refused(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	w.refuse = true;
	keys(&w, "4v\n");
	assert_int_equal(w.acts, 1);
	shows(&w, "no such thing");
	keys(&w, "l");
	shows(&w, "$ lifeboat point verify");
	tw_fini(&w);
}

/* ---- U2: nothing leaves before its command was shown ---- */

static void test_equal_command(void **state)
{
	static const struct {
		const char *keys, *command;
	} given[] = {
		{"4v", "$ lifeboat point verify "},
		{"4V", " --deep"},
		{"1>>c", "$ lifeboat group cut web"},
		{"5>D", "$ lifeboat drill /etc/lifeboat/runbooks/tokyo-to-osaka.yaml"},
		{"6\nh", "$ lifeboat run halt 7f3e9a1c"},
		{"6\nc", "$ lifeboat run continue 7f3e9a1c"},
		{"6\n>>t", "$ lifeboat run retry 7f3e9a1c crm"},
		{"6\n>>s", "$ lifeboat run skip 7f3e9a1c crm --reason '' --confirm osaka"},
		{"6\nX", "$ lifeboat run cancel 7f3e9a1c --confirm osaka"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		struct tui_world w;

		start(&w);
		keys(&w, given[i].keys);
		shows(&w, given[i].command);
		assert_int_equal(w.acts, 0);
		keys(&w, "!");
		assert_int_equal(w.acts, 0);
		assert_false(tw_shows(&w, "Really?"));
		tw_fini(&w);
	}
}

/* The command names the socket when it is not the usual one. */
static void test_socket(void **state)
{
	struct tui_world w;

	(void)state;
	tw_init(&w, agent, &(const struct ui_app_cfg){.socket = "/tmp/a b/s"}, 80, 24);
	tw_pass(&w, 2 * S);
	keys(&w, "1>>c");
	shows(&w, "$ lifeboat --socket '/tmp/a b/s' group cut web");
	keys(&w, "!:status\n");
	assert_string_equal(w.run, "[--socket][/tmp/a b/s][status]");
	tw_fini(&w);
}

/* ---- U3 ---- */

static void test_read_only(void **state)
{
	struct tui_world w;

	(void)state;
	tw_init(&w, agent, &(const struct ui_app_cfg){.read_only = true}, 80, 24);
	tw_pass(&w, 2 * S);
	shows(&w, "read-only");
	keys(&w, "4v\n");
	shows(&w, "switched off");
	keys(&w, "5>F\n\n\ntokyo\n!!!5>D\n!e");
	keys(&w, "!!6\nX!");
	keys(&w, ":run start x --confirm tokyo\n");
	assert_int_equal(w.acts, 0);
	assert_string_equal(w.run, "");
	assert_string_equal(w.edit, "");
	keys(&w, "!:status\n");
	assert_string_equal(w.run, "[status]");
	tw_fini(&w);
}

/* So it is, unasked, for who may only look: nothing is offered that would be refused. */
static void test_agent_says_read_only(void **state)
{
	struct tui_world w;
	char path[600];
	json_t *status;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/status.json", agent);
	status = json_load_file(path, 0, NULL);
	(void)json_object_set_new(status, "read_only", json_true());
	start(&w);
	w.override_path = "/v1/status";
	w.override_body = status;
	tw_pass(&w, 2 * S);
	shows(&w, "read-only");
	assert_false(tw_shows(&w, "fail over"));
	keys(&w, "4v\n!1>>c\n");
	assert_int_equal(w.acts, 0);
	w.override_path = NULL;
	json_decref(status);
	tw_fini(&w);
}

/* What cannot be seen cannot be agreed to: too small, keys do nothing but leave. */
static void test_too_small(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "4v");
	tw_size(&w, 20, 5);
	shows(&w, "enlarge");
	keys(&w, "\n");
	assert_int_equal(w.acts, 0);
	tw_size(&w, 1, 1);
	tw_pass(&w, S);
	free(tw_screen(&w));
	keys(&w, "q");
	tw_size(&w, 80, 24);
	keys(&w, "!q");
	assert_true(w.quit);
	tw_fini(&w);
}

/* ---- moving about ---- */

static void test_views(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	for (char k = '1'; k <= '9'; k++) {
		char name[40];

		tw_key(&w, (uint32_t)k);
		tw_pass(&w, S);
		free(tw_screen(&w));
		assert_true(ui_app_place((size_t)(k - '1'), name, sizeof(name)));
		assert_true(ui_app_reached(w.app, name) > 0);
	}
	tw_key(&w, UI_K_TAB);
	shows(&w, "Am I protected?");
	tw_fini(&w);
}

/* The selection follows its row when rows come before it. */
static void test_selection_follows(void **state)
{
	struct tui_world w;
	json_t *status, *groups;
	char path[600];

	(void)state;
	start(&w);
	keys(&w, "1>>");
	(void)snprintf(path, sizeof(path), "%s/status.json", agent);
	status = json_load_file(path, 0, NULL);
	groups = json_object_get(status, "groups");
	(void)json_array_insert_new(groups, 0,
				    json_pack("{s:s, s:s}", "name", "aaa", "role", "BACKUP"));
	w.override_path = "/v1/status";
	w.override_body = status;
	tw_pass(&w, 2 * S);
	shows(&w, ">web");
	/* and when it goes, what stands there is selected, and no act is aimed at the old one */
	(void)json_array_remove(groups, 3);
	tw_pass(&w, 2 * S);
	shows(&w, ">files");
	w.override_path = NULL;
	json_decref(status);
	tw_fini(&w);
}

static void test_filter(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "4/APPLICATION");
	shows(&w, "b6747af610e8");
	assert_false(tw_shows(&w, "filesystem  \n"));
	keys(&w, "\n");
	shows(&w, "/APPLICATION");
	keys(&w, "!");
	shows(&w, "7f87e4c9be64");
	keys(&w, "/nothing at all");
	shows(&w, "nothing matches the filter");
	tw_fini(&w);
}

static void test_help(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "4?decrypt");
	shows(&w, "deep verify");
	keys(&w, "\n"); /* does the entry */
	shows(&w, "$ lifeboat point verify");
	shows(&w, "--deep");
	tw_fini(&w);
}

static json_t *answer_of(const char *name)
{
	char path[600];
	json_t *o;

	(void)snprintf(path, sizeof(path), "%s/%s.json", agent, name);
	o = json_load_file(path, 0, NULL);
	assert_non_null(o);
	return o;
}

/* The wizard with a plan whose name to type is @confirm. */
static void with_confirm(struct tui_world *w, json_t *plan, const char *confirm)
{
	(void)json_object_set_new(plan, "confirm", json_string(confirm));
	start(w);
	w->override_path = "/v1/runbooks/plan";
	w->override_body = plan;
	keys(w, "5>F\n");
}

/* Several sites give way, or none. */
static void test_sites_that_give_way(void **state)
{
	json_t *plan = answer_of("runbooks_plan");
	struct tui_world w;

	(void)state;
	with_confirm(&w, plan, "tokyo,nara");
	shows(&w, "! tokyo is connected to this site now");
	shows(&w, "? nara is no peer of this site");
	shows(&w, "It is alive");
	keys(&w, "\n\ntokyo\n");
	assert_int_equal(w.acts, 0);
	keys(&w, ",nara\n");
	assert_int_equal(w.acts, 1);
	assert_non_null(strstr(w.act[0].body, "\"confirm\":\"tokyo,nara\""));
	tw_fini(&w);
	with_confirm(&w, plan, "osaka");
	shows(&w, "! This runbook fences no site");
	shows(&w, "! tokyo is connected to this site now");
	assert_false(tw_shows(&w, "gives way"));
	keys(&w, "\n\n");
	shows(&w, "No site is fenced");
	assert_false(tw_shows(&w, "gives way"));
	keys(&w, "osaka\n");
	assert_int_equal(w.acts, 1);
	json_decref(plan);
	tw_fini(&w);
}

/* Going on without a fence wants this site's name; a run that stands still says why. */
static void test_continue_without_fence(void **state)
{
	json_t *run = answer_of("runs_7f3e9a1c000000000000000000000000");
	struct tui_world w;

	(void)state;
	(void)json_object_set_new(json_array_get(json_object_get(run, "steps"), 0), "state",
				  json_string("waiting"));
	(void)json_object_set_new(run, "log_error", json_string("no space left"));
	start(&w);
	w.override_path = "/v1/runs/7f3e9a1c000000000000000000000000";
	w.override_body = run;
	keys(&w, "6\n");
	tw_pass(&w, S);
	shows(&w, "the run stands still, its log cannot be written: no space left");
	keys(&w, "c\n");
	assert_int_equal(w.acts, 0);
	keys(&w, "osaka\n");
	assert_int_equal(w.acts, 1);
	assert_string_equal(w.act[0].body, "{\"command\":\"continue\",\"confirm\":\"osaka\"}");
	json_decref(run);
	tw_fini(&w);
}

/* The screen of a machine under lifeboat-vm is asked for by the program that knows how. */
static void test_picture(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "3s");
	assert_string_equal(w.run,
			    "[vm][screenshot][lb-7f3e9a1c-1]"); /* the drill's, by its name */
	shows(&w, "$ lifeboat vm screenshot lb-7f3e9a1c-1");
	keys(&w, "!9s");
	assert_string_equal(w.run, "[vm][screenshot][lb-7f3e9a1c-1]");
	keys(&w, "!3");
	keys(&w, "!>>");
	w.run[0] = '\0';
	keys(&w, "s"); /* not one of those */
	assert_string_equal(w.run, "");
	tw_fini(&w);
}

/* ---- the command line ---- */

static void typed(struct tui_world *w, const char *line, const char *argv)
{
	w->run[0] = '\0';
	keys(w, ":");
	tw_type(w, line);
	keys(w, "\n");
	assert_string_equal(w->run, argv);
	keys(w, "!!!");
}

static void test_command_words(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	typed(&w, "status", "[status]");
	typed(&w, "  point   list  --max 3 ", "[point][list][--max][3]");
	typed(&w, "lifeboat status", "[status]");
	typed(&w, "run skip 1a2b dns --reason 'done by hand'",
	      "[run][skip][1a2b][dns][--reason][done by hand]");
	typed(&w, "run skip 1a2b \"d n\" x\\ y", "[run][skip][1a2b][d n][x y]");
	typed(&w, "run skip 1a2b $(reboot) ; ls", "[run][skip][1a2b][$(reboot)][;][ls]");
	typed(&w, "", "");
	typed(&w, "point list 'open", "");
	typed(&w, "rm -rf /", "");
	typed(&w, "tui", "");
	tw_fini(&w);
}

static void completes(struct tui_world *w, const char *line, const char *to)
{
	keys(w, ":");
	tw_type(w, line);
	tw_key(w, UI_K_TAB);
	shows(w, to);
	keys(w, "!");
}

static void test_completion(void **state)
{
	struct tui_world w;

	(void)state;
	start(&w);
	keys(&w, "4561");
	completes(&w, "stat", ":status");
	completes(&w, "point sh", ":point show");
	completes(&w, "group cut w", ":group cut web");
	completes(&w, "point show lat", ":point show latest");
	completes(&w, "point list --gr", ":point list --group");
	completes(&w, "point list --group fi", ":point list --group files");
	completes(&w, "run show 7f", ":run show 7f3e9a1c");
	completes(&w, "drill /etc/lifeboat/runbooks/to",
		  ":drill /etc/lifeboat/runbooks/tokyo-to-osaka.yaml");
	completes(&w, "run ", "start"); /* several: they are listed */
	tw_fini(&w);
}

static void test_output(void **state)
{
	struct tui_world w;
	static const char text[] = "first \033[31mline\033[0m\n\033]0;evil\alast\n";
	struct ui_input in = {.kind = UI_IN_OUTPUT, .text = text, .len = sizeof(text) - 1};
	struct ui_input end = {.kind = UI_IN_EXIT, .rc = 3};

	(void)state;
	start(&w);
	keys(&w, ":status\n");
	shows(&w, "it runs; no output yet");
	tw_input(&w, &in);
	shows(&w, "first line");
	shows(&w, "last");
	assert_false(tw_shows(&w, "evil"));
	tw_input(&w, &end);
	shows(&w, "status 3");
	keys(&w, "!");
	assert_int_equal(w.kills, 0); /* it had ended by itself */
	keys(&w, ":watch\n!");
	assert_int_equal(w.kills, 1);
	tw_input(&w, &in); /* late output of what was ended */
	tw_fini(&w);
}

/* Much output keeps its end. */
static void test_much_output(void **state)
{
	struct tui_world w;
	char *much = malloc(3u << 20);
	struct ui_input in = {.kind = UI_IN_OUTPUT, .text = much, .len = 3u << 20};

	(void)state;
	assert_non_null(much);
	memset(much, 'x', 3u << 20);
	for (size_t i = 79; i < 3u << 20; i += 80)
		much[i] = '\n';
	memcpy(much + (3u << 20) - 5, "END!", 4);
	start(&w);
	keys(&w, ":watch\n");
	tw_input(&w, &in);
	tw_input(&w, &in);
	shows(&w, "END!");
	free(much);
	tw_fini(&w);
}

/* ---- nonsense and names that are weapons ---- */

static void answer_with(const char *path, const char *view, const json_t *body, const char *shown)
{
	struct tui_world w;

	start(&w);
	w.override_path = path;
	w.override_body = body;
	keys(&w, view);
	tw_pass(&w, 12 * S);
	for (const char *p = view; *p != '\0'; p++)
		keys(&w, "\n");
	if (shown != NULL)
		shows(&w, shown);
	tw_fini(&w);
}

static void test_nonsense(void **state)
{
	static const char *const bodies[] = {
		"{}",
		"{\"groups\": 7, \"runs\": \"x\", \"site\": null, \"mode\": [], \"store\": 1}",
		"{\"groups\": [1, null, \"x\", [], {\"name\": {}, \"rpo_ns\": -1}]}",
		"{\"groups\": [{\"name\": \"g\", \"rpo_ns\": 1e300, \"epoch\": \"x\"}], \"runs\": "
		"[{}]}",
		"{\"points\": [{}, {\"marks\": [1, {}]}], \"sites\": [{}], \"machines\": [{}]}",
		"{\"events\": [{}, {\"n\": -5}, {\"n\": 9223372036854775807}, {\"n\": 3}]}",
		"{\"steps\": [{}, {\"boot\": 3}], \"state\": \"RUNNING\"}",
		"{\"runbooks\": [{}], \"text\": 4, \"checks\": [{}], \"jobs\": [{}, {\"error\": "
		"1}]}",
		"{\"groups\": [{\"shipped_bytes_per_s\": [1, \"x\", null], \"rpo_ns\": 3}]}",
	};
	static const char *const paths[] = {
		"/v1/status",         "/v1/sites",    "/v1/machines",
		"/v1/points?max=200", "/v1/runbooks", "/v1/history",
		"/v1/doctor",         "/v1/jobs",     "/v1/runs/7f3e9a1c000000000000000000000000"};

	(void)state;
	for (size_t b = 0; b < sizeof(bodies) / sizeof(bodies[0]); b++)
		for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
			json_t *body = json_loads(bodies[b], 0, NULL);

			assert_non_null(body);
			answer_with(paths[p], "123456\n789", body, NULL);
			json_decref(body);
		}
}

static void no_weapon(struct tui_world *w)
{
	char *screen = tw_screen(w);

	for (const unsigned char *p = (const unsigned char *)screen; *p != '\0'; p++)
		if ((*p < 0x20 && *p != '\n') || *p == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0) ||
		    (p[0] == 0xe2 && p[1] == 0x80 && p[2] >= 0x8b && p[2] <= 0xae && p[2] != 0x90 &&
		     p[2] != 0x94 && p[2] != 0xa6))
			fail_msg("byte %02x on the screen:\n%s", *p, screen);
	free(screen);
}

static void test_hostile_names(void **state)
{
	char longer[4097];
	const char *names[] = {"\033[2J\033]0;x\a",
			       "a\nb",
			       "x\xe2\x80\xae"
			       "gpj.exe",
			       "\xc2\x9b"
			       "31m",
			       longer,
			       "\t\b\r",
			       "$(reboot)",
			       "../../x",
			       "a' --confirm tokyo"};

	(void)state;
	memset(longer, 'L', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct tui_world w;
		json_t *status = json_pack(
			"{s:s, s:s, s:s, s:[{s:s, s:s, s:s, s:s, s:[]}], s:[{s:s, s:s, s:s, s:s}]}",
			"site", names[i], "mode", names[i], "alarm", names[i], "groups", "name",
			names[i], "role", names[i], "peer", names[i], "why", names[i], "machines",
			"runs", "id", names[i], "runbook", names[i], "mode", names[i], "state",
			names[i]);

		assert_non_null(status);
		start(&w);
		w.override_path = "/v1/status";
		w.override_body = status;
		tw_pass(&w, 2 * S);
		for (char k = '1'; k <= '9'; k++) {
			tw_key(&w, (uint32_t)k);
			tw_pass(&w, S);
			no_weapon(&w);
			keys(&w, "c");
			no_weapon(&w);
			keys(&w, "\n!!");
		}
		for (unsigned k = 0; k < w.acts; k++) /* only what is exact is acted on */
			assert_null(strstr(w.act[k].path, "..."));
		json_decref(status);
		tw_fini(&w);
	}
}

/* As many columns in every row as the terminal has, and nothing in a cell that a terminal could
 * draw otherwise than we count it. */
static void cells_are_right(struct tui_world *w)
{
	free(tw_screen(w));
	for (int y = 0; y < w->grid.h; y++) {
		int columns = 0;

		for (int x = 0; x < w->grid.w; x++) {
			const struct ui_cell *c = ui_grid_at(&w->grid, y, x);

			assert_int_equal(c->columns, c->text[0] == '\0' ? 0 : ui_columns(c->text));
			assert_null(
				strstr(c->text, "\xe2\x80\x8d")); /* joins what stands beside it */
			assert_null(strstr(c->text, "\xef\xb8\x8f")); /* makes it wide */
			columns += c->columns;
		}
		assert_int_equal(columns, w->grid.w);
	}
	no_weapon(w);
}

/* Whatever the agent calls everything: each view, window and dialog holds its columns. */
static void test_names_everywhere(void **state)
{
	char longer[4097];
	const char *names[] = {
		"\xd0\xa1\xd0\xb5\xd1\x80\xd0\xb2\xd0\xb5\xd1\x80\xe2\x91\xa0", /* ambiguous */
		"受注サーバー",
		"e\xcc\x81\xcc\x82\xcc\x83\xcc\x84x",           /* marks on marks */
		"\xf0\x9f\x96\xa5\xef\xb8\x8f db",              /* an emoji with its selector */
		"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", /* two, joined */
		"\xf0\x9f\x87\xaf\xf0\x9f\x87\xb5",             /* a flag */
		"\xd7\xa9\xd7\xa8\xd7\xaa",                     /* Hebrew */
		"a\xe2\x80\x8b\xe2\x80\x8f"
		"b",
		"\xff\xfe\xc0\xaf",
		"\033[2J\033]0;x\a\xc2\x9b"
		"31m",
		"\xcc\x81\xcc\x81", /* marks on nothing */
		longer,
		"",
	};

	(void)state;
	for (size_t i = 0; i + 4 < sizeof(longer); i += 3)
		memcpy(longer + i, "語", 4);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct tui_world w;

		start(&w);
		w.name_all = names[i];
		tw_pass(&w, 20 * S);
		for (int narrow = 0; narrow < 2; narrow++) {
			static const char *const places[] = {
				"1",   "2", "3",  "4",   "5",    "6",      "6\n", "7",   "8",
				"8\n", "9", "1?", "4/x", "5F\n", "5F\n\n", "5D",  "1:po"};

			tw_size(&w, narrow == 0 ? 80 : 60, narrow == 0 ? 24 : 15);
			for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++) {
				keys(&w, "!!!!");
				keys(&w, places[k]);
				tw_pass(&w, 6 * S);
				cells_are_right(&w);
			}
			keys(&w, "!!!!");
		}
		tw_fini(&w);
	}
}

/* The events of an agent whose state.db began anew. */
static void test_events_anew(void **state)
{
	struct tui_world w;
	json_t *events = json_pack("{s:[{s:i, s:s, s:s, s:s, s:s}]}", "events", "n", 1, "level",
				   "info", "comp", "agent", "ev", "reborn", "line", "x");

	(void)state;
	start(&w);
	keys(&w, "8");
	w.override_path = "/v1/events?after=7";
	w.override_body = events;
	tw_pass(&w, 4 * S);
	shows(&w, "reborn");
	json_decref(events);
	w.override_path = NULL;
	tw_fini(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_frame),
		cmocka_unit_test(test_nothing_known),
		cmocka_unit_test(test_agent_away),
		cmocka_unit_test(test_why_nobody_answers),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_failover),
		cmocka_unit_test(test_skip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_equal_command),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_picture),
		cmocka_unit_test(test_sites_that_give_way),
		cmocka_unit_test(test_continue_without_fence),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_agent_says_read_only),
		cmocka_unit_test(test_too_small),
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_selection_follows),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_command_words),
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_much_output),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_names_everywhere),
		cmocka_unit_test(test_events_anew),
	};

	if (argc < 2)
		return 2;
	agent = argv[1];
	(void)setenv("TZ", "UTC", 1);
	(void)setlocale(LC_ALL, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
