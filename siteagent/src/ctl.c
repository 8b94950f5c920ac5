#include "siteagent/ctl.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

#define ANSWER_MAX (16u << 20)

struct sa_ctl {
	CURL *curl;
	char *socket_path;
	char *answer;
	size_t answer_len, answer_cap;
	bool too_large;
	long status; /* HTTP status of the last answer */
	_Atomic bool aborted;
};

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
	struct sa_ctl *c = arg;
	size_t len = size * n;
	char *grown;

	if (len > ANSWER_MAX - c->answer_len) {
		c->too_large = true;
		return 0;
	}
	if (c->answer_len + len >= c->answer_cap) {
		grown = realloc(c->answer, 2 * (c->answer_len + len) + 1);
		if (grown == NULL)
			return 0;
		c->answer = grown;
		c->answer_cap = 2 * (c->answer_len + len) + 1;
	}
	memcpy(c->answer + c->answer_len, p, len);
	c->answer_len += len;
	c->answer[c->answer_len] = '\0';
	return len;
}

static int on_progress(void *arg, curl_off_t all_down, curl_off_t down, curl_off_t all_up,
		       curl_off_t up)
{
	struct sa_ctl *c = arg;

	(void)all_down;
	(void)down;
	(void)all_up;
	(void)up;
	return atomic_load(&c->aborted) ? 1 : 0;
}

int sa_ctl_open(struct sa_ctl **out, const char *socket_path, uint64_t timeout_ns,
		struct lb_err *err)
{
	struct sa_ctl *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "control client");
	c->curl = curl_easy_init();
	c->socket_path = strdup(socket_path);
	if (c->curl == NULL || c->socket_path == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "control client for %s", socket_path);
		goto out;
	}
	(void)curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	(void)curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http");
	(void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)(timeout_ns / 1000000u));
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
	(void)curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	(void)curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
	(void)curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	*out = c;
	c = NULL;
out:
	sa_ctl_close(c);
	return rc;
}

void sa_ctl_close(struct sa_ctl *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	free(c->socket_path);
	free(c->answer);
	free(c);
}

void sa_ctl_abort(struct sa_ctl *c)
{
	atomic_store(&c->aborted, true);
}

static int call_error(struct sa_ctl *c, CURLcode res, const char *method, const char *path,
		      struct lb_err *err)
{
	long sys = 0;

	(void)curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &sys);
	if (res == CURLE_ABORTED_BY_CALLBACK)
		return lb_err_set(err, LB_ECANCELED, 0, "%s %s was cancelled", method, path);
	if (res == CURLE_OPERATION_TIMEDOUT)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "agent on %s did not answer %s %s",
				  c->socket_path, method, path);
	if (res == CURLE_URL_MALFORMAT)
		return lb_err_set(err, LB_EINPUT, 0, "not a path: %.100s", path);
	if (res == CURLE_COULDNT_CONNECT && sys == EACCES)
		return lb_err_set(err, LB_EDENIED, EACCES,
				  "control socket %s: be root or a member of its group",
				  c->socket_path);
	if (res == CURLE_COULDNT_CONNECT)
		return lb_err_set(err, LB_EAGAIN, 0,
				  "no agent answers on %s (%s); is lifeboatd running?",
				  c->socket_path, strerror((int)sys));
	return lb_err_set(err, LB_ECLOSED, (int)sys, "agent on %s broke off %s %s: %s",
			  c->socket_path, method, path, curl_easy_strerror(res));
}

static int perform(struct sa_ctl *c, const char *method, const char *path, const char *body,
		   struct lb_err *err)
{
	char url[1024];
	int n = snprintf(url, sizeof(url), "http://lifeboat%s", path);
	CURLcode res;

	if (n < 0 || (size_t)n >= sizeof(url))
		return lb_err_set(err, LB_EINPUT, 0, "request path is too long: %.80s...", path);
	free(c->answer);
	c->answer = NULL;
	c->answer_len = 0;
	c->answer_cap = 0;
	c->too_large = false;
	(void)curl_easy_setopt(c->curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	/* On a connection that was used before curl would send it again, unasked, when the agent
	 * ends before it answers: an order is given once. */
	(void)curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT,
			       strcmp(method, "GET") == 0 ? 0L : 1L);
	if (body != NULL)
		(void)curl_easy_setopt(c->curl, CURLOPT_COPYPOSTFIELDS, body);
	else
		(void)curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
	res = curl_easy_perform(c->curl);
	c->status = 0;
	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &c->status);
	if (res == CURLE_OK)
		return 0;
	if (c->too_large)
		return lb_err_set(err, LB_EPROTO, 0, "answer of %s is larger than %u bytes", path,
				  ANSWER_MAX);
	return call_error(c, res, method, path, err);
}

static int code_of_name(const char *name)
{
	for (int code = -1; code > -(int)LB_CODE_COUNT; code--)
		if (strcmp(lb_err_name(code), name) == 0)
			return code;
	return LB_EPROTO;
}

/* The agent's {"error": ...} becomes our lb_err. */
static int agent_error(const json_t *answer, char *hint, uint64_t hint_bytes, struct lb_err *err)
{
	const json_t *e = json_object_get(answer, "error");
	const char *name = json_string_value(json_object_get(e, "code"));
	const char *msg = json_string_value(json_object_get(e, "message"));
	const char *h = json_string_value(json_object_get(e, "hint"));

	if (e == NULL)
		return 0;
	if (h != NULL && hint != NULL && hint_bytes > 0) {
		(void)snprintf(hint, hint_bytes, "%s", h);
		(void)lb_utf8_clean(hint); /* it may be cut */
	}
	return lb_err_set(err, (enum lb_code)code_of_name(name != NULL ? name : ""), 0, "%s",
			  msg != NULL ? msg : "agent reported an error without a message");
}

/* NOLINTNEXTLINE(readability-function-size): a buffer and its size are one thing */
int sa_ctl_call(struct sa_ctl *c, const char *method, const char *path, const struct json_t *body,
		struct json_t **out, char *hint, uint64_t hint_bytes, struct lb_err *err)
{
	char *text = NULL;
	json_t *answer = NULL;
	json_error_t je;
	int rc;

	if (hint != NULL && hint_bytes > 0)
		hint[0] = '\0';
	if (strcmp(method, "POST") == 0) {
		text = body == NULL ? strdup("{}") : json_dumps(body, JSON_COMPACT);
		if (text == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "request body of %s", path);
	}
	rc = perform(c, method, path, text, err);
	if (rc != 0)
		goto out;
	answer = json_loadb(c->answer != NULL ? c->answer : "", c->answer_len, 0, &je);
	if (!json_is_object(answer)) {
		rc = lb_err_set(err, LB_EPROTO, 0, "answer of %s is not a JSON object", path);
		goto out;
	}
	/* an object may have an "error" of its own, as a failed job has */
	if (c->status >= 400) {
		rc = agent_error(answer, hint, hint_bytes, err);
		if (rc == 0)
			rc = lb_err_set(err, LB_EPROTO, 0, "%s: status %ld without an error", path,
					c->status);
		goto out;
	}
	*out = answer;
	answer = NULL;
out:
	json_decref(answer);
	free(text);
	return rc;
}

const char *sa_ctl_path_part(char *out, size_t out_bytes, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && n + 4 < out_bytes;
	     p++) {
		if ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
		    (*p >= 'A' && *p <= 'Z') || strchr("-._~", *p) != NULL) {
			out[n++] = (char)*p;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[*p >> 4];
		out[n++] = hex[*p & 15];
	}
	out[n] = '\0';
	return out;
}
