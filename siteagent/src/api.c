#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api_int.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/loop.h"

#define BODY_MAX        (1u << 20)
#define PARTS_MAX       8u
#define CONNECTIONS_MAX 64u
#define IDLE_TIMEOUT_S  120u

struct sa_api {
	struct MHD_Daemon *daemon;
	struct lb_loop *loop;
	sa_api_fn fn;
	void *arg;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/*
 * One request lives on two threads in turn, never on both:
 *   MHD thread: READING --body complete [hand_over]--> loop: ASKED --[sa_api_answer]--> MHD thread:
 * ANSWERED The connection is suspended while the loop has it, so MHD cannot touch or free it.
 */
enum stage {
	READING,
	ASKED,
	ANSWERED
};
struct sa_api_request {
	struct sa_api *api;
	struct MHD_Connection *conn;
	enum stage stage;
	char *body;
	size_t body_len;
	bool too_large;
	char method[8];
	char *url; /* owned; parts point into it */
	const char *part[PARTS_MAX + 1];
	json_t *query, *json;
	uid_t uid;
	bool may_write;
	char *answer;
	unsigned status;
};

static void request_free(struct sa_api_request *rq)
{
	json_decref(rq->query);
	json_decref(rq->json);
	free(rq->body);
	free(rq->url);
	free(rq->answer);
	free(rq);
}

static unsigned http_status(int code)
{
	switch (lb_err_class(code)) {
	case LB_CLASS_INPUT:
		if (code == LB_ENOTFOUND)
			return MHD_HTTP_NOT_FOUND;
		return code == LB_EDENIED ? MHD_HTTP_FORBIDDEN : MHD_HTTP_BAD_REQUEST;
	case LB_CLASS_RETRY:
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	case LB_CLASS_FENCE:
		return MHD_HTTP_CONFLICT;
	case LB_CLASS_PEER:
	case LB_CLASS_LOCAL:
	case LB_CLASS_DATA:
	case LB_CLASS_BUG:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
	return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static void set_answer(struct sa_api_request *rq, unsigned status, json_t *body)
{
	rq->status = status;
	rq->answer = body == NULL ? NULL : json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	if (rq->answer == NULL) {
		rq->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
		rq->answer = strdup("{\"error\":{\"code\":\"LB_ENOMEM\","
				    "\"message\":\"out of memory for the answer\"}}");
	}
	json_decref(body);
}

static json_t *error_json(const struct lb_err *err, const char *hint)
{
	json_t *e = json_pack("{s:s, s:s}", "code", lb_err_name(err->code), "message",
			      err->msg[0] != '\0' ? err->msg : lb_err_text(err->code));

	if (e == NULL) /* a message that is not UTF-8 */
		e = json_pack("{s:s, s:s}", "code", lb_err_name(err->code), "message",
			      lb_err_text(err->code));
	if (hint != NULL)
		(void)json_object_set_new(e, "hint", json_string(hint));
	return json_pack("{s:o}", "error", e);
}

void sa_api_answer(struct sa_api_request *rq, struct json_t *body)
{
	LB_ASSERT(rq->stage == ASKED);
	set_answer(rq, MHD_HTTP_OK, body);
	rq->stage = ANSWERED;
	MHD_resume_connection(rq->conn);
}

void sa_api_fail(struct sa_api_request *rq, const struct lb_err *err, const char *hint)
{
	LB_ASSERT(rq->stage == ASKED);
	set_answer(rq, http_status(err->code), error_json(err, hint));
	rq->stage = ANSWERED;
	MHD_resume_connection(rq->conn);
}

static void on_loop(void *arg)
{
	struct sa_api_request *rq = arg;
	struct sa_api_call call = {
		.method = rq->method,
		.part = rq->part,
		.query = rq->query,
		.body = rq->json,
		.uid = rq->uid,
		.read_only = !rq->may_write,
	};

	rq->api->fn(rq->api->arg, rq, &call);
}

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	json_t *query = cls;

	(void)kind;
	/* a value that is not UTF-8 is dropped: json_string() gives NULL */
	(void)json_object_set_new(query, key, json_string(value != NULL ? value : ""));
	return MHD_YES;
}

/* "/v1/points/ab12/verify" -> {"points", "ab12", "verify"} */
static int split_url(struct sa_api_request *rq, const char *url, struct lb_err *err)
{
	size_t n = 0;
	char *save = NULL;

	if (strncmp(url, "/v1/", 4) != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no such path: %.100s", url);
	rq->url = strdup(url + 4);
	if (rq->url == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "request path");
	for (char *p = strtok_r(rq->url, "/", &save); p != NULL; p = strtok_r(NULL, "/", &save)) {
		if (n == PARTS_MAX)
			return lb_err_set(err, LB_ENOTFOUND, 0, "path has more than %u parts",
					  PARTS_MAX);
		rq->part[n++] = p;
	}
	return n == 0 ? lb_err_set(err, LB_ENOTFOUND, 0, "no such path: /v1/") : 0;
}

static unsigned depth_of(const char *p, size_t len)
{
	unsigned depth = 0, max = 0;

	for (size_t i = 0; i < len; i++) {
		if (p[i] == '{' || p[i] == '[')
			max = ++depth > max ? depth : max;
		else if ((p[i] == '}' || p[i] == ']') && depth > 0)
			depth--;
	}
	return max;
}

static int parse_body(struct sa_api_request *rq, struct lb_err *err)
{
	json_error_t je;

	if (rq->too_large)
		return lb_err_set(err, LB_EINPUT, 0, "request body is larger than %u bytes",
				  BODY_MAX);
	if (rq->body_len == 0)
		return 0;
	/* brackets inside strings count too: a limit on hostile nesting, not a grammar */
	if (depth_of(rq->body, rq->body_len) > 512)
		return lb_err_set(err, LB_EINPUT, 0, "request body is nested too deep");
	rq->json = json_loadb(rq->body, rq->body_len, JSON_REJECT_DUPLICATES, &je);
	if (rq->json == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "request body line %d column %d: %s", je.line,
				  je.column, je.text);
	if (!json_is_object(rq->json))
		return lb_err_set(err, LB_EINPUT, 0, "request body is not a JSON object");
	return 0;
}

static int authority(struct sa_api_request *rq, struct lb_err *err)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(rq->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (info == NULL || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return lb_err_set(err, LB_EDENIED, errno, "peer credentials of the control socket");
	rq->uid = cred.uid;
	rq->may_write = cred.uid == 0 || cred.uid == geteuid();
	if (strcmp(rq->method, "GET") != 0 && !rq->may_write)
		return lb_err_set(err, LB_EDENIED, 0, "uid %u may only read", (unsigned)cred.uid);
	return 0;
}

static int prepare(struct sa_api_request *rq, const char *url, struct lb_err *err)
{
	int rc = authority(rq, err);

	if (rc == 0 && strcmp(rq->method, "GET") != 0 && strcmp(rq->method, "POST") != 0)
		rc = lb_err_set(err, LB_EINPUT, 0, "method %s: only GET and POST", rq->method);
	if (rc == 0)
		rc = split_url(rq, url, err);
	if (rc == 0)
		rc = parse_body(rq, err);
	rq->query = json_object();
	if (rc == 0 && rq->query == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "request query");
	return rc;
}

static enum MHD_Result send_answer(struct sa_api_request *rq)
{
	struct MHD_Response *rs;
	enum MHD_Result rc;

	if (rq->answer == NULL)
		return MHD_NO;
	rs = MHD_create_response_from_buffer(strlen(rq->answer), rq->answer, MHD_RESPMEM_MUST_COPY);
	if (rs == NULL)
		return MHD_NO;
	(void)MHD_add_response_header(rs, "Content-Type", "application/json");
	rc = MHD_queue_response(rq->conn, rq->status, rs);
	MHD_destroy_response(rs);
	return rc;
}

static enum MHD_Result hand_over(struct sa_api_request *rq, const char *url)
{
	struct lb_err err = {0};

	if (prepare(rq, url, &err) != 0) {
		set_answer(rq, http_status(err.code), error_json(&err, NULL));
		rq->stage = ANSWERED;
		return send_answer(rq);
	}
	(void)MHD_get_connection_values(rq->conn, MHD_GET_ARGUMENT_KIND, add_query, rq->query);
	rq->stage = ASKED;
	MHD_suspend_connection(rq->conn);
	lb_loop_post(rq->api->loop, on_loop, rq);
	return MHD_YES;
}

static void take_body(struct sa_api_request *rq, const char *p, size_t len)
{
	char *grown;

	if (rq->too_large || len > BODY_MAX - rq->body_len) {
		rq->too_large = true;
		return;
	}
	grown = realloc(rq->body, rq->body_len + len);
	if (grown == NULL) {
		rq->too_large = true;
		return;
	}
	memcpy(grown + rq->body_len, p, len);
	rq->body = grown;
	rq->body_len += len;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *data_len, void **state)
{
	struct sa_api_request *rq = *state;

	(void)version;
	if (rq == NULL) {
		rq = calloc(1, sizeof(*rq));
		if (rq == NULL)
			return MHD_NO;
		rq->api = cls;
		rq->conn = conn;
		strncpy(rq->method, method, sizeof(rq->method) - 1);
		*state = rq;
		return MHD_YES;
	}
	if (rq->stage == ANSWERED)
		return send_answer(rq);
	if (*data_len > 0) {
		take_body(rq, data, *data_len);
		*data_len = 0;
		return MHD_YES;
	}
	return hand_over(rq, url);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **state,
			 enum MHD_RequestTerminationCode toe)
{
	(void)cls;
	(void)conn;
	(void)toe;
	if (*state != NULL)
		request_free(*state);
	*state = NULL;
}

static int listen_unix(struct sa_api *a, const char *path, struct lb_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(sa.sun_path))
		return lb_err_set(err, LB_EINPUT, 0, "control socket path is longer than %zu: %s",
				  sizeof(sa.sun_path) - 1, path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	memcpy(a->path, sa.sun_path, sizeof(a->path));
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return lb_err_errno(err, errno, "socket for %s", path);
	/* the state directory's lock says that no other agent is alive, so what is there is stale
	 */
	if (unlink(path) != 0 && errno != ENOENT)
		return lb_err_errno(err, errno, "unlink stale %s", path);
	if (bind(a->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
		return lb_err_errno(err, errno, "bind control socket %s", path);
	if (chmod(path, 0660) != 0 || listen(a->fd, 64) != 0)
		return lb_err_errno(err, errno, "listen on control socket %s", path);
	return 0;
}

int sa_api_create(struct sa_api **out, struct lb_loop *loop, const char *socket_path, sa_api_fn fn,
		  void *arg, struct lb_err *err)
{
	struct sa_api *a = calloc(1, sizeof(*a));
	int rc;

	if (a == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "control API");
	*a = (struct sa_api){.loop = loop, .fn = fn, .arg = arg, .fd = -1};
	rc = listen_unix(a, socket_path, err);
	if (rc != 0)
		goto out;
	a->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
					     MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC,
				     0, NULL, NULL, on_access, a, MHD_OPTION_LISTEN_SOCKET, a->fd,
				     MHD_OPTION_NOTIFY_COMPLETED, on_completed, a,
				     MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
				     MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_END);
	if (a->daemon == NULL) {
		rc = lb_err_set(err, LB_EIO, errno, "start HTTP on %s", socket_path);
		goto out;
	}
	a->fd = -1; /* MHD's now */
	*out = a;
	a = NULL;
out:
	sa_api_destroy(a);
	return rc;
}

void sa_api_destroy(struct sa_api *a)
{
	if (a == NULL)
		return;
	if (a->daemon != NULL)
		MHD_stop_daemon(a->daemon);
	if (a->fd >= 0)
		(void)close(a->fd);
	if (a->path[0] != '\0')
		(void)unlink(a->path);
	free(a);
}
