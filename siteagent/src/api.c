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
#include "api_parse_int.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"

#define BODY_MAX        (1u << 20)
#define CONNECTIONS_MAX 64u
#define IDLE_TIMEOUT_S  60u
#define DRAIN_MAX_S     1

/*
 * One request lives on two threads in turn, never on both:
 *   MHD thread: READING --body complete [hand_over]--> loop: ASKED --[finish]--> MHD thread:
 * ANSWERED The connection is suspended while the loop has it, so MHD cannot touch or free it. What
 * is ASKED is in the list of its sa_api: when that is destroyed first, it is answered LB_ECLOSED
 * there.
 */
enum stage {
	READING,
	ASKED,
	ANSWERED
};

/* What is posted to the loop. It outlives its request when the API is destroyed in between. */
struct ticket {
	struct sa_api_request *rq; /* NULL: answered already */
};

struct sa_api_request {
	struct sa_api *api;
	struct MHD_Connection *conn;
	struct sa_api_request *next, **link; /* while ASKED */
	struct ticket *ticket;               /* while posted */
	enum stage stage;
	char *body;
	size_t body_len;
	bool too_large;
	char method[8];
	struct sa_api_parsed parsed;
	uid_t uid;
	bool may_write;
	char *answer;
	unsigned status;
};

struct sa_api {
	struct MHD_Daemon *daemon;
	struct lb_loop *loop;
	sa_api_fn fn;
	sa_api_looks_fn looks;
	void *arg;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "" until it is ours */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t idle;  /* open became 0 */
	struct sa_api_request *asked;
	unsigned open; /* requests not completed */
	bool closing;
};

static void request_free(struct sa_api_request *rq)
{
	sa_api_parsed_fini(&rq->parsed);
	free(rq->body);
	free(rq->answer);
	free(rq);
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

/* Lock held. */
static void finish(struct sa_api_request *rq, unsigned status, json_t *body)
{
	LB_ASSERT(rq->stage == ASKED);
	set_answer(rq, status, body);
	*rq->link = rq->next;
	if (rq->next != NULL)
		rq->next->link = rq->link;
	rq->stage = ANSWERED;
	MHD_resume_connection(rq->conn);
}

void sa_api_answer(struct sa_api_request *rq, struct json_t *body)
{
	struct sa_api *a = rq->api;

	(void)pthread_mutex_lock(&a->lock);
	finish(rq, MHD_HTTP_OK, body);
	(void)pthread_mutex_unlock(&a->lock);
}

void sa_api_fail(struct sa_api_request *rq, const struct lb_err *err, const char *hint)
{
	struct sa_api *a = rq->api;

	(void)pthread_mutex_lock(&a->lock);
	finish(rq, sa_api_http_status(err->code), sa_api_error_json(err, hint));
	(void)pthread_mutex_unlock(&a->lock);
}

static void on_loop(void *arg)
{
	struct ticket *t = arg;
	struct sa_api_request *rq = t->rq;

	free(t);
	if (rq == NULL)
		return;
	rq->ticket = NULL;
	struct sa_api_call call = {
		.method = rq->method,
		.part = rq->parsed.part,
		.query = rq->parsed.query,
		.body = rq->parsed.body,
		.uid = rq->uid,
		.read_only = !rq->may_write,
	};

	rq->api->fn(rq->api->arg, rq, &call);
}

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	(void)kind;
	sa_api_parsed_query(cls, key, value);
	return MHD_YES;
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
	return 0;
}

static int permitted(struct sa_api_request *rq, struct lb_err *err)
{
	if (rq->may_write || strcmp(rq->method, "GET") == 0 || rq->api->looks(rq->parsed.part))
		return 0;
	return lb_err_set(err, LB_EDENIED, 0, "uid %u may only look", (unsigned)rq->uid);
}

static int prepare(struct sa_api_request *rq, const char *url, struct lb_err *err)
{
	int rc = authority(rq, err);

	if (rc == 0 && rq->too_large)
		rc = lb_err_set(err, LB_EINPUT, 0, "request body is larger than %u bytes",
				BODY_MAX);
	if (rc == 0)
		rc = sa_api_parse(&rq->parsed, rq->method, url, rq->body, rq->body_len, err);
	if (rc == 0)
		rc = permitted(rq, err);
	if (rc == 0)
		(void)MHD_get_connection_values(rq->conn, MHD_GET_ARGUMENT_KIND, add_query,
						&rq->parsed);
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

/* The loop has it from here, unless the API is being closed. */
static int ask(struct sa_api_request *rq, struct lb_err *err)
{
	struct sa_api *a = rq->api;
	struct ticket *t = malloc(sizeof(*t));
	int rc = 0;

	if (t == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "request");
	(void)pthread_mutex_lock(&a->lock);
	if (a->closing) {
		free(t);
		rc = lb_err_set(err, LB_ECLOSED, 0, "agent is stopping");
	} else {
		*t = (struct ticket){.rq = rq};
		rq->ticket = t;
		rq->stage = ASKED;
		rq->next = a->asked;
		rq->link = &a->asked;
		if (rq->next != NULL)
			rq->next->link = &rq->next;
		a->asked = rq;
		MHD_suspend_connection(rq->conn);
		lb_loop_post_owned(a->loop, on_loop, free, t);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return rc;
}

static enum MHD_Result hand_over(struct sa_api_request *rq, const char *url)
{
	struct lb_err err = {0};
	int rc = prepare(rq, url, &err);

	if (rc == 0)
		rc = ask(rq, &err);
	if (rc == 0)
		return MHD_YES;
	set_answer(rq, sa_api_http_status(rc), sa_api_error_json(&err, NULL));
	rq->stage = ANSWERED;
	return send_answer(rq);
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

static void opened(struct sa_api *a)
{
	(void)pthread_mutex_lock(&a->lock);
	a->open++;
	(void)pthread_mutex_unlock(&a->lock);
}

/* NOLINTNEXTLINE(readability-function-size): the library's signature */
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
		opened(rq->api);
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
	struct sa_api *a = cls;

	(void)conn;
	(void)toe;
	if (*state == NULL)
		return;
	request_free(*state);
	*state = NULL;
	(void)pthread_mutex_lock(&a->lock);
	if (--a->open == 0)
		(void)pthread_cond_signal(&a->idle);
	(void)pthread_mutex_unlock(&a->lock);
}

/* The state directory's lock says that no other agent is alive on the same state, so a socket that
 * nobody serves is stale. Anything else at @sa is not ours to remove. */
static int remove_stale(const struct sockaddr_un *sa, struct lb_err *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(sa->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : lb_err_errno(err, errno, "look at %s", sa->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return lb_err_set(err, LB_EEXIST, 0, "control socket %s: a file is in its place",
				  sa->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return lb_err_errno(err, errno, "socket for %s", sa->sun_path);
	rc = connect(fd, (const struct sockaddr *)sa, sizeof(*sa));
	(void)close(fd);
	if (rc == 0)
		return lb_err_set(err, LB_EBUSY, 0,
				  "another agent answers on control socket %s; stop it first",
				  sa->sun_path);
	if (unlink(sa->sun_path) != 0)
		return lb_err_errno(err, errno, "unlink stale %s", sa->sun_path);
	return 0;
}

static int listen_unix(struct sa_api *a, const char *path, struct lb_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc;

	if (strlen(path) >= sizeof(sa.sun_path))
		return lb_err_set(err, LB_EINPUT, 0, "control socket path is longer than %zu: %s",
				  sizeof(sa.sun_path) - 1, path);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	rc = remove_stale(&sa, err);
	if (rc != 0)
		return rc;
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return lb_err_errno(err, errno, "socket for %s", path);
	if (bind(a->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
		return lb_err_errno(err, errno, "bind control socket %s", path);
	memcpy(a->path, sa.sun_path, sizeof(a->path));
	if (chmod(path, 0660) != 0 || listen(a->fd, 64) != 0)
		return lb_err_errno(err, errno, "listen on control socket %s", path);
	return 0;
}

int sa_api_create(struct sa_api **out, struct lb_loop *loop, const char *socket_path, sa_api_fn fn,
		  sa_api_looks_fn looks, void *arg, struct lb_err *err)
{
	struct sa_api *a = calloc(1, sizeof(*a));
	int rc;

	if (a == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "control API");
	*a = (struct sa_api){.loop = loop, .fn = fn, .looks = looks, .arg = arg, .fd = -1};
	(void)pthread_mutex_init(&a->lock, NULL);
	lb_cond_init(&a->idle);
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

/* Answer what waits and give slow readers a moment to take it; MHD_stop_daemon() would abort on a
 * suspended connection. */
static void drain(struct sa_api *a)
{
	const struct lb_err err = {.code = LB_ECLOSED, .msg = "agent is stopping"};
	struct timespec until = lb_cond_deadline(UINT64_C(1000000000) * DRAIN_MAX_S);

	(void)pthread_mutex_lock(&a->lock);
	a->closing = true;
	while (a->asked != NULL) {
		if (a->asked->ticket != NULL)
			a->asked->ticket->rq = NULL;
		finish(a->asked, sa_api_http_status(err.code), sa_api_error_json(&err, NULL));
	}
	while (a->open > 0 && pthread_cond_timedwait(&a->idle, &a->lock, &until) == 0)
		continue;
	(void)pthread_mutex_unlock(&a->lock);
}

void sa_api_destroy(struct sa_api *a)
{
	if (a == NULL)
		return;
	if (a->daemon != NULL) {
		drain(a);
		MHD_stop_daemon(a->daemon);
	}
	if (a->fd >= 0)
		(void)close(a->fd);
	if (a->path[0] != '\0')
		(void)unlink(a->path);
	(void)pthread_cond_destroy(&a->idle);
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
}
