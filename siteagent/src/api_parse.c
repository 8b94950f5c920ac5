/* What the control API does to a request before anybody acts on it. Pure: no sockets, no agent. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api_parse_int.h"
#include "base/err.h"

#define DEPTH_MAX 16u

/* "/v1/points/ab12/verify" -> {"points", "ab12", "verify"} */
static int split(struct sa_api_parsed *p, const char *url, struct lb_err *err)
{
	size_t n = 0;
	char *save = NULL;

	if (strncmp(url, "/v1/", 4) != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no such path: %.100s", url);
	p->path = strdup(url + 4);
	if (p->path == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "request path");
	for (char *s = strtok_r(p->path, "/", &save); s != NULL; s = strtok_r(NULL, "/", &save)) {
		if (n == SA_API_PARTS_MAX)
			return lb_err_set(err, LB_ENOTFOUND, 0, "path has more than %u parts",
					  SA_API_PARTS_MAX);
		p->part[n++] = s;
	}
	return n == 0 ? lb_err_set(err, LB_ENOTFOUND, 0, "no such path: /v1/") : 0;
}

/* How deep objects and arrays nest. Brackets in strings do not count: a runbook's text may hold
 * any. Runs before the JSON parser, which recurses. */
static unsigned depth_of(const char *p, size_t len)
{
	unsigned depth = 0, max = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		if (in_string && p[i] == '\\')
			i++;
		else if (p[i] == '"')
			in_string = !in_string;
		else if (!in_string && (p[i] == '{' || p[i] == '['))
			max = ++depth > max ? depth : max;
		else if (!in_string && (p[i] == '}' || p[i] == ']') && depth > 0)
			depth--;
	}
	return max;
}

static int parse_body(struct sa_api_parsed *p, const char *body, size_t len, struct lb_err *err)
{
	json_error_t je;

	if (len == 0)
		return 0;
	if (depth_of(body, len) > DEPTH_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "request body is nested deeper than %u",
				  DEPTH_MAX);
	p->body = json_loadb(body, len, JSON_REJECT_DUPLICATES, &je);
	if (p->body == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "request body line %d column %d: %s", je.line,
				  je.column, je.text);
	if (!json_is_object(p->body))
		return lb_err_set(err, LB_EINPUT, 0, "request body is not a JSON object");
	return 0;
}

int sa_api_parse(struct sa_api_parsed *out, const char *method, const char *url, const char *body,
		 size_t body_len, struct lb_err *err)
{
	struct sa_api_parsed p = {.path = NULL};
	int rc = 0;

	if (strcmp(method, "GET") != 0 && strcmp(method, "POST") != 0)
		rc = lb_err_set(err, LB_EINPUT, 0, "method %.16s: only GET and POST", method);
	if (rc == 0)
		rc = split(&p, url, err);
	if (rc == 0)
		rc = parse_body(&p, body, body_len, err);
	if (rc == 0 && (p.query = json_object()) == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "request query");
	if (rc == 0)
		*out = p;
	else
		sa_api_parsed_fini(&p);
	return rc;
}

void sa_api_parsed_query(struct sa_api_parsed *p, const char *key, const char *value)
{
	/* what is not UTF-8 is dropped: json_string() gives NULL */
	(void)json_object_set_new(p->query, key, json_string(value != NULL ? value : ""));
}

void sa_api_parsed_fini(struct sa_api_parsed *p)
{
	json_decref(p->query);
	json_decref(p->body);
	free(p->path);
	*p = (struct sa_api_parsed){.path = NULL};
}

bool sa_api_matches(const char *pattern, const char *const *part)
{
	size_t i = 0;

	for (; part[i] != NULL && *pattern != '\0'; i++) {
		size_t n = strcspn(pattern, "/");

		if (!(n == 1 && pattern[0] == '*') &&
		    (strlen(part[i]) != n || strncmp(part[i], pattern, n) != 0))
			return false;
		pattern += n;
		pattern += *pattern == '/' ? 1 : 0;
	}
	return part[i] == NULL && *pattern == '\0';
}

unsigned sa_api_http_status(int code)
{
	switch (lb_err_class(code)) {
	case LB_CLASS_INPUT:
		if (code == LB_ENOTFOUND)
			return 404;
		return code == LB_EDENIED ? 403 : 400;
	case LB_CLASS_RETRY:
		return 503;
	case LB_CLASS_FENCE:
		return 409;
	case LB_CLASS_PEER:
	case LB_CLASS_LOCAL:
	case LB_CLASS_DATA:
	case LB_CLASS_BUG:
		return 500;
	}
	return 500;
}

struct json_t *sa_api_error_json(const struct lb_err *err, const char *hint)
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
