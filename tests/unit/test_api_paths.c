/* Every path of the control API answers once; what is dangerous wants a typed name. */
#include <jansson.h>

#include "api_stub.h"
#include "check.h"

static const char runbook[] =
	"apiVersion: lifeboat/v1\\nkind: Runbook\\nname: r\\nrto: 2m\\n"
	"modes: [drill, failover]\\nsteps:\\n"
	"  - {id: fence, action: fence, site: tokyo}\\n"
	"  - {id: db, action: boot, machine: db, needs: [fence], timeout: 9s}\\n";

static void call(struct api_stub_answer *a, const char *method, const char *target,
		 const char *body)
{
	api_stub_call(a, method, target, body, strlen(body));
	assert_int_equal(a->times, 1);
}

static void expect(const char *method, const char *target, const char *body, int code,
		   const char *did)
{
	struct api_stub_answer a;

	call(&a, method, target, body);
	if (a.err.code != code)
		fail_msg("%s %s %s: %s (%s)", method, target, body, lb_err_name(a.err.code),
			 a.err.msg);
	assert_int_equal(json_is_object(a.body), code == 0);
	assert_string_equal(a.did, did);
	json_decref(a.body);
}

static void test_every_path(void **state)
{
	(void)state;
	expect("GET", "/v1/status", "", 0, "");
	expect("GET", "/v1/sites", "", 0, "");
	expect("GET", "/v1/groups", "", 0, "");
	expect("GET", "/v1/machines", "", 0, "");
	expect("GET", "/v1/points", "", 0, "");
	expect("GET", "/v1/points?group=erp", "", 0, "");
	expect("GET", "/v1/points?group=hr", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/points?max=-1", "", LB_EINPUT, "");
	expect("GET", "/v1/points?max=x", "", LB_EINPUT, "");
	expect("GET", "/v1/points?max=9e99", "", LB_EINPUT, "");
	expect("GET", "/v1/points?max=", "", LB_EINPUT, "");
	expect("GET", "/v1/points?max=9999999999999999999", "", LB_EINPUT, "");
	expect("GET", "/v1/events?after=seven", "", LB_EINPUT, "");
	expect("GET", "/v1/points/latest", "", 0, "");
	expect("GET", "/v1/points/ab", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/jobs", "", 0, "");
	expect("GET", "/v1/jobs/j1", "", 0, "");
	expect("GET", "/v1/jobs/j2", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/history", "", 0, "");
	expect("GET", "/v1/runbooks", "", 0, "");
	expect("GET", "/v1/runbooks/r", "", 0, "");
	expect("GET", "/v1/runbooks/no", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/runs", "", 0, "");
	expect("GET", "/v1/runs/1a2b", "", 0, "");
	expect("GET", "/v1/runs/9", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/runs/1a2b/console?machine=db", "", 0, "");
	expect("GET", "/v1/runs/1a2b/console", "", LB_ENOTFOUND, "");
	expect("GET", "/v1/events?after=7", "", 0, "");
	expect("GET", "/v1/doctor", "", 0, "");
	expect("GET", "/v1/catalog/dump", "", 0, "");
	expect("POST", "/v1/site/init", "{}", 0, "init");
	expect("POST", "/v1/site/token", "{\"name\":\"tokyo\"}", 0, "token tokyo");
	expect("POST", "/v1/site/token", "{}", LB_EINPUT, "");
	expect("POST", "/v1/site/join", "{\"token\":\"good\"}", 0, "join");
	expect("POST", "/v1/site/join", "{\"token\":\"bad\"}", LB_EAUTH, "join");
	expect("POST", "/v1/site/join", "", LB_EINPUT, "");
	expect("POST", "/v1/site/token", "{\"name\":\"tokyo\",\"renew\":true}", 0,
	       "token-renew tokyo");
	expect("POST", "/v1/site/token", "{\"name\":\"kyoto\",\"renew\":true}", LB_ENOTFOUND,
	       "token-renew kyoto");
	expect("POST", "/v1/site/renew", "{\"token\":\"good\"}", 0, "renew-by good");
	expect("POST", "/v1/site/renew", "{\"token\":\"bad\"}", LB_EAUTH, "renew-by bad");
	expect("POST", "/v1/site/renew", "{}", LB_EUNSUPPORTED, "renew");
	expect("POST", "/v1/site/remove", "{}", LB_EINPUT, "");
	expect("POST", "/v1/site/remove", "{\"name\":\"kyoto\",\"confirm\":\"kyoto\"}",
	       LB_ENOTFOUND, "");
	expect("POST", "/v1/site/remove", "{\"name\":\"nara\"}", LB_EDENIED, "");
	expect("POST", "/v1/site/remove", "{\"name\":\"nara\",\"confirm\":\"osaka\"}", LB_EDENIED,
	       "");
	expect("POST", "/v1/site/remove", "{\"name\":\"nara\",\"confirm\":\"nara\"}", 0,
	       "retire nara");
	expect("POST", "/v1/groups/erp/cut", "", 0, "cut");
	expect("POST", "/v1/groups/hr/cut", "", LB_ENOTFOUND, "");
	expect("POST", "/v1/points/latest/verify", "{\"deep\":true}", 0, "job verify point");
	expect("POST", "/v1/points/ab/verify", "", LB_ENOTFOUND, "");
	expect("POST", "/v1/verify", "", 0, "job verify store");
	expect("POST", "/v1/catalog/rebuild", "", 0, "job catalog rebuild");
	expect("POST", "/v1/jobs/j1/cancel", "", 0, "job_cancel j1");
	expect("POST", "/v1/runbooks/lint", "{}", LB_EINPUT, "");
	expect("POST", "/v1/runbooks/plan", "{\"text\":\"a: b\"}", LB_EINPUT, "");
	/* a right path with the wrong method is no path */
	expect("POST", "/v1/status", "{}", LB_ENOTFOUND, "");
	expect("GET", "/v1/site/init", "", LB_ENOTFOUND, "");
}

static void test_export(void **state)
{
	const char *path = "/v1/points/latest/export";
	char body[400];

	(void)state;
	expect("POST", path, "{\"path\":\"/tmp/x\"}", 0, "job export point");
	expect("POST", path, "{\"path\":\"/tmp/x\",\"format\":\"qcow2\"}", 0, "job export point");
	expect("POST", path, "{\"path\":\"/tmp/x\",\"format\":\"vmdk\"}", LB_EINPUT, "");
	expect("POST", path, "{\"path\":\"x\"}", LB_EINPUT, "");
	expect("POST", path, "{\"path\":7}", LB_EINPUT, "");
	expect("POST", path, "{}", LB_EINPUT, "");
	(void)snprintf(body, sizeof(body), "{\"path\":\"/%0300d\"}", 0);
	expect("POST", path, body, LB_EINPUT, "");
}

/* An option of another type is refused, not left out: "deep" as text is no shallow verify. */
static void test_types(void **state)
{
	(void)state;
	expect("POST", "/v1/verify", "{\"deep\":\"yes\"}", LB_EINPUT, "");
	expect("POST", "/v1/verify", "{\"deep\":1}", LB_EINPUT, "");
	expect("POST", "/v1/verify", "{\"deep\":false}", 0, "job verify store");
	expect("POST", "/v1/verify", "{\"deep\":null}", 0, "job verify store");
	expect("POST", "/v1/verify", "{\"other\":[1]}", 0, "job verify store");
	expect("POST", "/v1/site/token", "{\"name\":\"tokyo\",\"ttl_ns\":\"5m\"}", LB_EINPUT, "");
	expect("POST", "/v1/site/token", "{\"name\":\"tokyo\",\"ttl_ns\":1.5}", LB_EINPUT, "");
	expect("POST", "/v1/site/token", "{\"name\":[\"tokyo\"]}", LB_EINPUT, "");
	expect("POST", "/v1/points/latest/export", "{\"path\":\"/x\",\"machine\":{\"a\":1}}",
	       LB_EINPUT, "");
	expect("POST", "/v1/runs/1a2b/command", "{\"command\":\"retry\",\"step\":7}", LB_EINPUT,
	       "");
}

static void test_max(void **state)
{
	static const struct {
		const char *target;
		int max;
	} given[] = {{"/v1/points", 100},
		     {"/v1/points?max=5", 5},
		     {"/v1/points?max=0", 10000},
		     {"/v1/points?max=99999", 10000}};

	(void)state;
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		struct api_stub_answer a;

		call(&a, "GET", given[i].target, "");
		assert_int_equal(json_integer_value(json_object_get(a.body, "max")), given[i].max);
		json_decref(a.body);
	}
}

static void run(const char *mode, const char *confirm, int code, const char *did)
{
	char body[1024];

	(void)snprintf(body, sizeof(body), "{\"text\":\"%s\",\"mode\":\"%s\"%s%s%s}", runbook, mode,
		       confirm != NULL ? ",\"confirm\":\"" : "", confirm != NULL ? confirm : "",
		       confirm != NULL ? "\"" : "");
	expect("POST", "/v1/runs", body, code, did);
}

/* The typed name is that of the site which gives way, and it is the API that asks for it. */
static void test_dangerous_runs(void **state)
{
	struct api_stub_answer a;
	char body[1024];

	(void)state;
	run("drill", NULL, 0, "run_start drill");
	run("failover", NULL, LB_EDENIED, "");
	run("failover", "", LB_EDENIED, "");
	run("failover", "osaka", LB_EDENIED, "");
	run("failover", "Tokyo", LB_EDENIED, "");
	run("failover", "tokyo", 0, "run_start failover");
	run("planned", "osaka", LB_EDENIED, "");
	run("", NULL, LB_EDENIED, ""); /* an unknown mode is not taken for a harmless one */
	expect("POST", "/v1/runs", "{\"mode\":\"drill\"}", LB_EINPUT, "");
	expect("POST", "/v1/runs", "{\"text\":\"a: b\",\"mode\":\"drill\"}", LB_EINPUT, "");
	(void)snprintf(body, sizeof(body), "{\"text\":\"%s\",\"mode\":\"failover\"}", runbook);
	call(&a, "POST", "/v1/runs", body);
	assert_string_equal(a.hint, "type the name of the site that gives way: --confirm tokyo");
}

/* A run of @steps in @mode with @confirm typed. */
static void run_of(const char *steps, const char *mode, const char *confirm, int code,
		   const char *did)
{
	char body[1024];

	(void)snprintf(body, sizeof(body),
		       "{\"text\":\"apiVersion: lifeboat/v1\\nkind: Runbook\\nname: r\\n"
		       "steps:\\n%s\",\"mode\":\"%s\",\"confirm\":\"%s\"}",
		       steps, mode, confirm);
	expect("POST", "/v1/runs", body, code, did);
}

/* The name of another mode's site confirms nothing, nor does one of two. */
static void test_sites_that_give_way(void **state)
{
	static const char by_mode[] =
		"  - {id: a, action: fence, site: tokyo, modes: [failover]}\\n"
		"  - {id: b, action: fence, site: nara, modes: [planned]}\\n";
	static const char two[] = "  - {id: a, action: fence, site: tokyo}\\n"
				  "  - {id: b, action: fence, site: nara}\\n"
				  "  - {id: c, action: fence, site: tokyo}\\n";
	struct api_stub_answer a;
	char body[1024];

	(void)state;
	run_of(by_mode, "failover", "nara", LB_EDENIED, "");
	run_of(by_mode, "failover", "tokyo", 0, "run_start failover");
	run_of(by_mode, "planned", "tokyo", LB_EDENIED, "");
	run_of(by_mode, "planned", "nara", 0, "run_start planned");
	run_of(by_mode, "drill", "", 0, "run_start drill");
	run_of(two, "failover", "tokyo", LB_EDENIED, "");
	run_of(two, "failover", "nara", LB_EDENIED, "");
	run_of(two, "failover", "nara,tokyo", LB_EDENIED, "");
	run_of(two, "failover", "tokyo,nara", 0, "run_start failover");
	(void)snprintf(body, sizeof(body),
		       "{\"text\":\"apiVersion: lifeboat/v1\\nkind: Runbook\\nname: r\\n"
		       "steps:\\n%s\",\"mode\":\"failover\"}",
		       two);
	call(&a, "POST", "/v1/runbooks/plan", body);
	assert_string_equal(json_string_value(json_object_get(a.body, "confirm")), "tokyo,nara");
	json_decref(a.body);
}

static void command(const char *name, const char *confirm, int code, const char *did)
{
	char body[256];

	(void)snprintf(body, sizeof(body), "{\"command\":\"%s\",\"step\":\"db\"%s%s%s}", name,
		       confirm != NULL ? ",\"confirm\":\"" : "", confirm != NULL ? confirm : "",
		       confirm != NULL ? "\"" : "");
	expect("POST", "/v1/runs/1a2b/command", body, code, did);
}

static void test_dangerous_commands(void **state)
{
	struct api_stub_answer a;

	(void)state;
	/* what an operator can do about a run that stands still is said */
	call(&a, "POST", "/v1/runs/3c4d/command", "{\"command\":\"halt\"}");
	assert_int_equal(a.err.code, LB_ESUSPECT);
	assert_non_null(strstr(a.hint, "start lifeboatd again"));
	command("continue", NULL, 0, "run_command continue");
	command("retry", NULL, 0, "run_command retry");
	command("halt", NULL, 0, "run_command halt");
	command("skip", NULL, LB_EDENIED, "");
	command("skip", "tokyo", LB_EDENIED, "");
	command("skip", "osaka", 0, "run_command skip");
	command("cancel", NULL, LB_EDENIED, "");
	command("cancel", "osaka", 0, "run_command cancel");
	/* to go on where the fence failed can make two sites active */
	expect("POST", "/v1/runs/2b3c/command", "{\"command\":\"continue\"}", LB_EDENIED, "");
	expect("POST", "/v1/runs/2b3c/command", "{\"command\":\"continue\",\"confirm\":\"osaka\"}",
	       0, "run_command continue");
	expect("POST", "/v1/runs/2b3c/command", "{\"command\":\"retry\",\"step\":\"fence\"}", 0,
	       "run_command retry");
	expect("POST", "/v1/runs/1a2b/command", "{}", LB_EINPUT, "");
	expect("POST", "/v1/runs/9/command", "{\"command\":\"halt\"}", LB_ENOTFOUND, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_path),
		cmocka_unit_test(test_export),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_max),
		cmocka_unit_test(test_dangerous_runs),
		cmocka_unit_test(test_dangerous_commands),
		cmocka_unit_test(test_sites_that_give_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
