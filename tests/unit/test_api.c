/* The control API over a real unix socket: api.c and api_parse.c at one end, ctl.c and raw bytes at
 * the other. */
#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "api_int.h"
#include "api_parse_int.h"
#include "base/err.h"
#include "base/loop.h"
#include "check.h"
#include "siteagent/ctl.h"

#define LIMIT_S     30
#define CONNECTIONS 64
#define KEPT_MAX    128u
#define CALL_NS     (UINT64_C(1000000000) * LIMIT_S)

/* An agent of one loop thread that does what the path says. */
struct world {
	char dir[32], path[64];
	struct lb_loop *loop;
	struct sa_api *api;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct sa_api_request *kept[KEPT_MAX]; /* asked for "later" */
	size_t kept_n;
	unsigned calls;
};

static json_t *describe(const struct sa_api_call *c)
{
	json_t *parts = json_array();

	for (size_t i = 0; c->part[i] != NULL; i++)
		(void)json_array_append_new(parts, json_string(c->part[i]));
	return json_pack("{s:s, s:o, s:O, s:o, s:i, s:b}", "method", c->method, "parts", parts,
			 "query", c->query, "body",
			 c->body != NULL ? json_incref((json_t *)(uintptr_t)c->body) : json_null(),
			 "uid", (int)c->uid, "read_only", c->read_only);
}

static bool looks(const char *const *part)
{
	return part[0] != NULL && strcmp(part[0], "question") == 0;
}

static void on_call(void *arg, struct sa_api_request *rq, const struct sa_api_call *c)
{
	struct world *w = arg;
	struct lb_err err = {0};

	assert_true(lb_loop_mine(w->loop));
	(void)pthread_mutex_lock(&w->lock);
	w->calls++;
	if (strcmp(c->part[0], "later") == 0 && w->kept_n < KEPT_MAX)
		w->kept[w->kept_n++] = rq;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
	if (strcmp(c->part[0], "later") == 0)
		return;
	if (strcmp(c->part[0], "fail") == 0) {
		(void)lb_err_set(&err, (enum lb_code) - strtol(c->part[1], NULL, 10), 0, "because");
		sa_api_fail(rq, &err, "try harder");
	} else if (strcmp(c->part[0], "latin1") == 0) {
		(void)lb_err_set(&err, LB_EIO, 0, "caf\xe9");
		sa_api_fail(rq, &err, NULL);
	} else if (strcmp(c->part[0], "nothing") == 0) {
		sa_api_answer(rq, NULL);
	} else {
		sa_api_answer(rq, describe(c));
	}
}

static void *serve(void *arg)
{
	struct world *w = arg;

	(void)lb_loop_run(w->loop, NULL);
	return NULL;
}

static void world_names(struct world *w)
{
	*w = (struct world){.api = NULL};
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-api.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->path, sizeof(w->path), "%s/s", w->dir);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->changed, NULL);
	assert_int_equal(lb_loop_create(&w->loop, NULL), 0);
}

static void world_init(struct world *w)
{
	world_names(w);
	assert_int_equal(sa_api_create(&w->api, w->loop, w->path, on_call, looks, w, NULL), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, serve, w), 0);
}

static void world_clean(struct world *w)
{
	lb_loop_destroy(w->loop);
	(void)pthread_cond_destroy(&w->changed);
	(void)pthread_mutex_destroy(&w->lock);
	assert_int_equal(access(w->path, F_OK), -1);
	assert_int_equal(rmdir(w->dir), 0);
}

static void close_api(void *arg)
{
	struct world *w = arg;

	sa_api_destroy(w->api);
	w->api = NULL;
	lb_loop_stop(w->loop);
}

static void world_fini(struct world *w)
{
	lb_loop_post(w->loop, close_api, w);
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	world_clean(w);
}

static void answer_kept(void *arg)
{
	struct world *w = arg;

	while (w->kept_n > 0)
		sa_api_answer(w->kept[--w->kept_n], json_pack("{s:b}", "later", 1));
}

static void wait_kept(struct world *w, size_t n)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LIMIT_S;
	(void)pthread_mutex_lock(&w->lock);
	while (w->kept_n < n)
		assert_int_equal(pthread_cond_timedwait(&w->changed, &w->lock, &until), 0);
	(void)pthread_mutex_unlock(&w->lock);
}

/* ---- a client of bytes ---- */

static int dial(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = LIMIT_S};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static void put_all(int fd, const void *p, size_t n)
{
	for (const char *s = p; n > 0;) {
		ssize_t k = send(fd, s, n, MSG_NOSIGNAL);

		assert_true(k > 0);
		s += k;
		n -= (size_t)k;
	}
}

static void put_text(int fd, const char *s)
{
	put_all(fd, s, strlen(s));
}

/* Read to the end; the HTTP status, 0 when there was none. The answer's body is put in *out. */
static int get_answer(int fd, json_t **out)
{
	static char buf[65536];
	size_t n = 0;
	ssize_t k;
	const char *body;
	int status = 0;

	while (n < sizeof(buf) - 1 && (k = recv(fd, buf + n, sizeof(buf) - 1 - n, 0)) > 0)
		n += (size_t)k;
	buf[n] = '\0';
	(void)close(fd);
	if (sscanf(buf, "HTTP/1.1 %d", &status) != 1)
		return 0;
	body = strstr(buf, "\r\n\r\n");
	if (out != NULL)
		*out = body != NULL ? json_loads(body + 4, 0, NULL) : NULL;
	return status;
}

static int ask(struct world *w, const char *method, const char *target, const char *body,
	       size_t body_len, json_t **out)
{
	char head[2048];
	int fd = dial(w->path);

	assert_true(fd >= 0);
	(void)snprintf(head, sizeof(head),
		       "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
		       "%zu\r\n\r\n",
		       method, target, body_len);
	put_text(fd, head);
	put_all(fd, body, body_len);
	return get_answer(fd, out);
}

static void expect_error(struct world *w, const char *method, const char *target, const char *body,
			 size_t body_len, int status, const char *code, const char *words)
{
	json_t *o = NULL, *e;

	assert_int_equal(ask(w, method, target, body, body_len, &o), status);
	e = json_object_get(o, "error");
	assert_non_null(e);
	assert_string_equal(json_string_value(json_object_get(e, "code")), code);
	if (strstr(json_string_value(json_object_get(e, "message")), words) == NULL)
		fail_msg("%s %s: \"%s\" lacks \"%s\"", method, target,
			 json_string_value(json_object_get(e, "message")), words);
	json_decref(o);
}

/* ---- what is refused ---- */

static void test_paths(void **state)
{
	struct world w;
	json_t *o = NULL;

	(void)state;
	world_init(&w);
	expect_error(&w, "GET", "/", "", 0, 404, "LB_ENOTFOUND", "no such path: /");
	expect_error(&w, "GET", "/v1", "", 0, 404, "LB_ENOTFOUND", "/v1");
	expect_error(&w, "GET", "/v1/", "", 0, 404, "LB_ENOTFOUND", "/v1/");
	expect_error(&w, "GET", "/v2/status", "", 0, 404, "LB_ENOTFOUND", "/v2/status");
	expect_error(&w, "GET", "/v1/1/2/3/4/5/6/7/8/9", "", 0, 404, "LB_ENOTFOUND", "parts");
	expect_error(&w, "PUT", "/v1/status", "", 0, 400, "LB_EINPUT", "PUT");
	expect_error(&w, "DELETE", "/v1/points/latest", "", 0, 400, "LB_EINPUT", "DELETE");
	expect_error(&w, "PROPPATCH", "/v1/x", "", 0, 400, "LB_EINPUT", "PROPPAT");
	assert_int_equal(w.calls, 0); /* none of them reached the agent */
	assert_int_equal(ask(&w, "GET", "/v1/a%20b//c?x=1&y=%C3%A9&x=2&z&bad=%FF", "", 0, &o), 200);
	assert_string_equal(json_string_value(json_array_get(json_object_get(o, "parts"), 0)),
			    "a b");
	assert_int_equal(json_array_size(json_object_get(o, "parts")), 2);
	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "query"), "x")),
			    "2");
	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "query"), "y")),
			    "\xc3\xa9");
	assert_null(json_object_get(json_object_get(o, "query"), "bad"));
	json_decref(o);
	world_fini(&w);
}

static void nest(char *out, size_t n)
{
	memcpy(out, "{\"a\":", 5);
	memset(out + 5, '[', n - 1);
	memset(out + 5 + n - 1, ']', n - 1);
	out[5 + 2 * (n - 1)] = '}';
	out[6 + 2 * (n - 1)] = '\0';
}

static void test_bodies(void **state)
{
	static const struct {
		const char *body, *words;
	} bad[] = {
		{"hello", "line 1 column"},    {"{\"a\":1,\"a\":2}", "duplicate"},
		{"[1]", "not a JSON object"},  {"{\"a\":\"\xff\"}", "0xff"},
		{"{} {}", "line 1"},           {"{\"a\":\"\\u0000\"}", "\\u0000"},
		{"{\"a\":1e999}", "overflow"}, {"\n\n{\"a\" 1}", "line 3"},
	};
	struct world w;
	char deep[256];
	json_t *o = NULL;

	(void)state;
	world_init(&w);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_error(&w, "POST", "/v1/echo", bad[i].body, strlen(bad[i].body), 400,
			     "LB_EINPUT", bad[i].words);
	nest(deep, 17);
	expect_error(&w, "POST", "/v1/echo", deep, strlen(deep), 400, "LB_EINPUT", "nested");
	assert_int_equal(w.calls, 0);
	nest(deep, 16);
	assert_int_equal(ask(&w, "POST", "/v1/echo", deep, strlen(deep), NULL), 200);
	/* brackets inside a string are text */
	(void)snprintf(deep, sizeof(deep), "{\"text\":\"%s\\\"[[\"}", "[[[[[[{{{{{{[[[[[[[[[[[[");
	assert_int_equal(ask(&w, "POST", "/v1/echo", deep, strlen(deep), &o), 200);
	json_decref(o);
	assert_int_equal(ask(&w, "POST", "/v1/echo", "", 0, &o), 200);
	assert_true(json_is_null(json_object_get(o, "body")));
	json_decref(o);
	world_fini(&w);
}

static void test_body_size(void **state)
{
	size_t max = 1u << 20;
	char *big = malloc(max + 1);
	struct world w;

	(void)state;
	assert_non_null(big);
	memset(big, ' ', max + 1);
	big[0] = '{';
	big[1] = '}';
	world_init(&w);
	assert_int_equal(ask(&w, "POST", "/v1/nothing-kept", big, max, NULL), 200);
	expect_error(&w, "POST", "/v1/echo", big, max + 1, 400, "LB_EINPUT", "larger than 1048576");
	world_fini(&w);
	free(big);
}

/* Not HTTP at all, or torn: the next client is served. */
static void test_garbage(void **state)
{
	static const char *const bytes[] = {
		"",
		"\r\n\r\n",
		"\x16\x03\x01\x02",
		"GET\r\n\r\n",
		"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
		"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
	};
	struct world w;

	(void)state;
	world_init(&w);
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		int fd = dial(w.path);

		put_text(fd, bytes[i]);
		(void)close(fd);
	}
	assert_int_equal(ask(&w, "GET", "/v1/echo", "", 0, NULL), 200);
	world_fini(&w);
}

/* ---- authority ---- */

/* In a child that is nobody, but a member of the socket's group. Exit 0: as it must be. */
static int as_nobody(struct world *w)
{
	json_t *o = NULL;
	const gid_t group = 0;

	if (setgroups(1, &group) != 0 || setuid(65534) != 0)
		return 1;
	if (ask(w, "GET", "/v1/echo", "", 0, &o) != 200 ||
	    !json_is_true(json_object_get(o, "read_only")) ||
	    json_integer_value(json_object_get(o, "uid")) != 65534)
		return 2;
	json_decref(o);
	if (ask(w, "POST", "/v1/echo", "{}", 2, &o) != 403)
		return 3;
	if (strstr(json_string_value(json_object_get(json_object_get(o, "error"), "message")),
		   "65534") == NULL)
		return 4;
	json_decref(o);
	if (ask(w, "POST", "/v1/question", "{}", 2, NULL) != 200)
		return 5;
	return 0;
}

static void test_authority(void **state)
{
	struct world w;
	json_t *o = NULL;
	pid_t pid;
	int status = 0;

	(void)state;
	if (geteuid() != 0) {
		(void)printf("skipped: another uid needs root\n");
		skip();
	}
	world_init(&w);
	assert_int_equal(chmod(w.dir, 0755), 0);
	pid = fork();
	if (pid == 0)
		_exit(as_nobody(&w));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(w.calls, 2);
	assert_int_equal(ask(&w, "POST", "/v1/echo", "{}", 2, &o), 200);
	assert_true(json_is_false(json_object_get(o, "read_only")));
	json_decref(o);
	world_fini(&w);
}

/* ---- slow, many, gone ---- */

static void test_slow_client(void **state)
{
	const char *rq = "POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
			 "Content-Length: 9\r\n\r\n{\"a\":123}";
	struct world w;
	json_t *o = NULL;
	int fd;

	(void)state;
	world_init(&w);
	fd = dial(w.path);
	for (const char *p = rq; *p != '\0'; p++) {
		put_all(fd, p, 1);
		if (p[0] == '\n' || p[0] == '{') /* others do not wait for it */
			assert_int_equal(ask(&w, "GET", "/v1/echo", "", 0, NULL), 200);
	}
	assert_int_equal(get_answer(fd, &o), 200);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "body"), "a")), 123);
	json_decref(o);
	world_fini(&w);
}

static int ask_later(struct world *w, const char *target)
{
	char head[200];
	int fd = dial(w->path);

	assert_true(fd >= 0);
	(void)snprintf(head, sizeof(head),
		       "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
	put_text(fd, head);
	return fd;
}

/* All places taken by requests that wait: who comes later is served when they are answered. */
static void test_many(void **state)
{
	struct world w;
	int fd[CONNECTIONS + 30];

	(void)state;
	world_init(&w);
	for (int i = 0; i < CONNECTIONS; i++)
		fd[i] = ask_later(&w, "/v1/later");
	wait_kept(&w, CONNECTIONS);
	for (int i = CONNECTIONS; i < CONNECTIONS + 30; i++)
		fd[i] = ask_later(&w, "/v1/echo");
	lb_loop_post(w.loop, answer_kept, &w);
	for (int i = 0; i < CONNECTIONS + 30; i++)
		assert_int_equal(get_answer(fd[i], NULL), 200);
	assert_int_equal(w.calls, CONNECTIONS + 30);
	world_fini(&w);
}

/* A client that goes away while the agent thinks is no trouble when the answer comes. */
static void test_client_gone(void **state)
{
	struct world w;
	int fd[5];

	(void)state;
	world_init(&w);
	for (int i = 0; i < 5; i++)
		fd[i] = ask_later(&w, "/v1/later");
	wait_kept(&w, 5);
	for (int i = 0; i < 5; i++)
		(void)close(fd[i]);
	lb_loop_post(w.loop, answer_kept, &w);
	assert_int_equal(ask(&w, "GET", "/v1/echo", "", 0, NULL), 200);
	world_fini(&w);
}

static void test_destroy_answers(void **state)
{
	struct world w;
	int fd[7];

	(void)state;
	world_init(&w);
	for (int i = 0; i < 7; i++)
		fd[i] = ask_later(&w, "/v1/later");
	wait_kept(&w, 7);
	lb_loop_post(w.loop, close_api, &w);
	for (int i = 0; i < 7; i++) {
		json_t *o = NULL;

		assert_int_equal(get_answer(fd[i], &o), 503);
		assert_string_equal(
			json_string_value(json_object_get(json_object_get(o, "error"), "code")),
			"LB_ECLOSED");
		json_decref(o);
	}
	assert_int_equal(pthread_join(w.thread, NULL), 0);
	assert_int_equal(dial(w.path), -1);
	world_clean(&w);
}

/* Handed to a loop that does not run any more; @later: it runs once more after the end. */
static void destroy_before_seen(bool later)
{
	struct world w;
	struct pollfd woken;
	int fd;

	world_names(&w);
	assert_int_equal(sa_api_create(&w.api, w.loop, w.path, on_call, looks, &w, NULL), 0);
	(void)uv_run(lb_loop_uv(w.loop), UV_RUN_NOWAIT); /* only then is its descriptor armed */
	fd = ask_later(&w, "/v1/echo");
	woken = (struct pollfd){.fd = uv_backend_fd(lb_loop_uv(w.loop)), .events = POLLIN};
	assert_int_equal(poll(&woken, 1, LIMIT_S * 1000), 1);
	sa_api_destroy(w.api);
	assert_int_equal(get_answer(fd, NULL), 503);
	if (later) {
		lb_loop_stop(w.loop);
		assert_int_equal(lb_loop_run(w.loop, NULL), 0);
	}
	assert_int_equal(w.calls, 0);
	world_clean(&w);
}

static void test_destroy_before_seen(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		destroy_before_seen(i % 2 == 0);
}

/* ---- the socket ---- */

static void test_socket_place(void **state)
{
	struct world w;
	struct sa_api *second = NULL;
	struct lb_err err = {0};
	char path[200];
	struct stat st;
	FILE *f;
	int fd;

	(void)state;
	world_init(&w);
	assert_int_equal(stat(w.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(sa_api_create(&second, w.loop, w.path, on_call, looks, &w, &err),
			 LB_EBUSY);
	assert_non_null(strstr(err.msg, w.path));
	assert_int_equal(ask(&w, "GET", "/v1/echo", "", 0, NULL), 200); /* still there */
	world_fini(&w);

	world_names(&w);
	f = fopen(w.path, "we"); /* somebody's file */
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(sa_api_create(&w.api, w.loop, w.path, on_call, looks, &w, &err),
			 LB_EEXIST);
	assert_int_equal(unlink(w.path), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* what a killed agent leaves */
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", w.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(sa_api_create(&w.api, w.loop, w.path, on_call, looks, &w, &err), 0);
	sa_api_destroy(w.api);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(sa_api_create(&w.api, w.loop, path, on_call, looks, &w, &err), LB_EINPUT);
	assert_int_equal(sa_api_create(&w.api, w.loop, "/nonexistent/s", on_call, looks, &w, &err),
			 LB_ENOTFOUND);
	world_clean(&w);
}

/* ---- the client ---- */

static void test_ctl_codes(void **state)
{
	struct world w;
	struct sa_ctl *c = NULL;
	struct lb_err err;
	json_t *o = NULL;
	char hint[64], path[64];

	(void)state;
	world_init(&w);
	assert_int_equal(sa_ctl_open(&c, w.path, CALL_NS, NULL), 0);
	for (int code = 1; code < (int)LB_CODE_COUNT; code++) {
		(void)snprintf(path, sizeof(path), "/v1/fail/%d", code);
		err = (struct lb_err){.code = 0};
		assert_int_equal(sa_ctl_call(c, "GET", path, NULL, &o, hint, sizeof(hint), &err),
				 -code);
		assert_int_equal(err.code, -code);
		assert_string_equal(err.msg, "because");
		assert_string_equal(hint, "try harder");
	}
	assert_int_equal(sa_ctl_call(c, "GET", "/v1/latin1", NULL, &o, NULL, 0, &err), LB_EIO);
	assert_string_equal(err.msg, "caf"); /* what can be told of it */
	assert_int_equal(sa_ctl_call(c, "GET", "/v1/nothing", NULL, &o, NULL, 0, &err), LB_ENOMEM);
	assert_int_equal(sa_ctl_call(c, "POST", "/v1/echo", NULL, &o, hint, sizeof(hint), &err), 0);
	assert_string_equal(hint, "");
	assert_true(json_is_object(json_object_get(o, "body")));
	json_decref(o);
	assert_int_equal(sa_ctl_call(c, "GET", "/v1/echo", NULL, &o, NULL, 0, &err), 0);
	assert_true(json_is_null(json_object_get(o, "body"))); /* nothing left of the POST */
	json_decref(o);
	sa_ctl_close(c);
	world_fini(&w);
}

static void test_ctl_nobody(void **state)
{
	struct sa_ctl *c = NULL;
	struct lb_err err = {0};
	json_t *o = NULL;

	(void)state;
	assert_int_equal(sa_ctl_open(&c, "/tmp/lb-no-such.sock", CALL_NS, NULL), 0);
	assert_int_equal(sa_ctl_call(c, "GET", "/v1/status", NULL, &o, NULL, 0, &err), LB_EAGAIN);
	assert_non_null(strstr(err.msg, "/tmp/lb-no-such.sock"));
	assert_non_null(strstr(err.msg, "is lifeboatd running?"));
	sa_ctl_close(c);
}

static void test_ctl_timeout(void **state)
{
	struct world w;
	struct sa_ctl *c = NULL;
	struct lb_err err = {0};
	json_t *o = NULL;

	(void)state;
	world_init(&w);
	assert_int_equal(sa_ctl_open(&c, w.path, UINT64_C(50000000), NULL), 0);
	assert_int_equal(sa_ctl_call(c, "GET", "/v1/later", NULL, &o, NULL, 0, &err), LB_ETIMEDOUT);
	sa_ctl_close(c);
	wait_kept(&w, 1);
	lb_loop_post(w.loop, answer_kept, &w);
	world_fini(&w);
}

struct liar {
	int fd;
	const char *head;
	size_t body_bytes;
};

static void *lie(void *arg)
{
	struct liar *l = arg;
	int fd = accept(l->fd, NULL, NULL);
	static const char zeros[65536];
	char buf[4096];

	(void)recv(fd, buf, sizeof(buf), 0);
	(void)send(fd, l->head, strlen(l->head), MSG_NOSIGNAL);
	for (size_t n = 0; n < l->body_bytes; n += sizeof(zeros))
		if (send(fd, zeros, sizeof(zeros), MSG_NOSIGNAL) < 0)
			break;
	(void)close(fd);
	return NULL;
}

/* Somebody else sits on the socket. */
static void test_ctl_liar(void **state)
{
	static const struct {
		const char *head;
		size_t body_bytes;
		int code;
	} lies[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, LB_EPROTO},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 0, LB_EPROTO},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, LB_EPROTO},
		{"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"error\":1234}", 0, LB_EPROTO},
		{"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n", 50000000, LB_EPROTO},
		{"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", 0, LB_EPROTO},
		{"", 0, LB_ECLOSED},
		{"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", 0, LB_ECLOSED},
	};
	struct world w;

	(void)state;
	world_names(&w);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct sockaddr_un sa = {.sun_family = AF_UNIX};
		struct liar l = {.head = lies[i].head, .body_bytes = lies[i].body_bytes};
		struct sa_ctl *c = NULL;
		struct lb_err err = {0};
		json_t *o = NULL;
		pthread_t t;

		(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", w.path);
		l.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(l.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		assert_int_equal(listen(l.fd, 1), 0);
		assert_int_equal(pthread_create(&t, NULL, lie, &l), 0);
		assert_int_equal(sa_ctl_open(&c, w.path, CALL_NS, NULL), 0);
		assert_int_equal(sa_ctl_call(c, "GET", "/v1/x", NULL, &o, NULL, 0, &err),
				 lies[i].code);
		sa_ctl_close(c);
		assert_int_equal(pthread_join(t, NULL), 0);
		(void)close(l.fd);
		(void)unlink(w.path);
	}
	world_clean(&w);
}

/* Answers what looks and keeps the connection; takes an order, and is gone before it has answered.
 */
struct dying {
	int fd;
	atomic_uint orders;
};

/* One request of @fd; false: it is over. */
static bool serve_dying(struct dying *d, int fd)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	char buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n > 4 && memcmp(buf, "POST", 4) == 0)
		atomic_fetch_add(&d->orders, 1);
	else if (n > 4)
		return send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0;
	return false;
}

static void *die_at_orders(void *arg)
{
	struct dying *d = arg;
	struct pollfd p[16] = {{.fd = d->fd, .events = POLLIN}};
	nfds_t n = 1;

	while (poll(p, n, -1) > 0 && p[0].revents != POLLHUP) {
		for (nfds_t i = 1; i < n; i++) {
			if (p[i].revents == 0 || serve_dying(d, p[i].fd))
				continue;
			(void)close(p[i].fd);
			p[i--] = p[--n];
		}
		if ((p[0].revents & POLLIN) != 0 && n < 16) {
			int fd = accept(d->fd, NULL, NULL);

			if (fd < 0)
				break;
			p[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
	}
	while (n > 1)
		(void)close(p[--n].fd);
	return NULL;
}

/* An order whose answer is lost is not given a second time behind its giver's back. */
static void test_ctl_orders_once(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct dying d = {.orders = 0};
	struct sa_ctl *c = NULL;
	json_t *o = NULL;
	struct world w;
	pthread_t t;

	(void)state;
	world_names(&w);
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", w.path);
	d.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(d.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(d.fd, 4), 0);
	assert_int_equal(pthread_create(&t, NULL, die_at_orders, &d), 0);
	assert_int_equal(sa_ctl_open(&c, w.path, CALL_NS, NULL), 0);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(sa_ctl_call(c, "GET", "/v1/x", NULL, &o, NULL, 0, NULL), 0);
		json_decref(o);
		assert_int_equal(sa_ctl_call(c, "POST", "/v1/runs", NULL, &o, NULL, 0, NULL),
				 LB_ECLOSED);
		assert_int_equal(atomic_load(&d.orders), i);
	}
	sa_ctl_close(c);
	(void)shutdown(d.fd, SHUT_RDWR);
	assert_int_equal(pthread_join(t, NULL), 0);
	(void)close(d.fd);
	(void)unlink(w.path);
	world_clean(&w);
}

/* ---- the parser alone ---- */

static void test_matches(void **state)
{
	const char *const ab[] = {"points", "ab", NULL}, *const abc[] = {"points", "ab", "c", NULL},
			  *const a[] = {"points", NULL};

	(void)state;
	assert_true(sa_api_matches("points/*", ab));
	assert_true(sa_api_matches("points", a));
	assert_true(sa_api_matches("points/*/c", abc));
	assert_false(sa_api_matches("points/*", a));
	assert_false(sa_api_matches("points/*", abc));
	assert_false(sa_api_matches("point", a));
	assert_false(sa_api_matches("pointss", a));
	assert_false(sa_api_matches("points/*/d", abc));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_body_size),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_authority),
		cmocka_unit_test(test_slow_client),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_client_gone),
		cmocka_unit_test(test_destroy_answers),
		cmocka_unit_test(test_destroy_before_seen),
		cmocka_unit_test(test_socket_place),
		cmocka_unit_test(test_ctl_codes),
		cmocka_unit_test(test_ctl_nobody),
		cmocka_unit_test(test_ctl_timeout),
		cmocka_unit_test(test_ctl_liar),
		cmocka_unit_test(test_ctl_orders_once),
		cmocka_unit_test(test_matches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
