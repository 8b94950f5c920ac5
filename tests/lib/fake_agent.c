#include "fake_agent.h"

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENT_MAX 64u

struct fake_agent {
	struct MHD_Daemon *daemon;
	const char *dir;
	char path[108];
	_Atomic int mood;
	_Atomic unsigned posts;
	pthread_mutex_t lock;
	struct MHD_Connection *silent[SILENT_MAX]; /* suspended */
	unsigned silents;
};

/* Only events that are newer, as it was asked for. */
static void drop_events(json_t *o, const char *after)
{
	json_t *list = json_object_get(o, "events");
	json_int_t last = after != NULL ? strtoll(after, NULL, 10) : 0;

	for (size_t i = json_array_size(list); i-- > 0;)
		if (json_integer_value(json_object_get(json_array_get(list, i), "n")) <= last)
			(void)json_array_remove(list, i);
}

static char *fixture(const struct fake_agent *f, const char *method, const char *url,
		     const char *after)
{
	char name[600];
	size_t n = (size_t)snprintf(name, sizeof(name), "%s/", f->dir);
	json_t *o;
	char *text;

	/* lint and plan are looked at with a POST, too */
	if (strcmp(method, "POST") == 0 && strncmp(url, "/v1/runbooks", 12) != 0)
		url = "/v1/act";
	for (const char *p = url + 4; *p != '\0' && n + 8 < sizeof(name); p++)
		name[n++] = *p == '/' ? '_' : *p;
	(void)snprintf(name + n, sizeof(name) - n, ".json");
	o = json_load_file(name, 0, NULL);
	drop_events(o, after);
	text = o != NULL ? json_dumps(o, 0) : NULL;
	json_decref(o);
	return text;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, char *text /* taken */)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result rc = MHD_queue_response(c, status, r);

	MHD_destroy_response(r);
	return rc;
}

static ssize_t short_body(void *cls, uint64_t pos, char *buf, size_t max)
{
	(void)cls;
	if (pos > 0 || max == 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	buf[0] = '{';
	return 1;
}

static enum MHD_Result cut_short(struct MHD_Connection *c)
{
	struct MHD_Response *r = MHD_create_response_from_callback(1000, 1, short_body, NULL, NULL);
	enum MHD_Result rc = MHD_queue_response(c, 200, r);

	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result stay_silent(struct fake_agent *f, struct MHD_Connection *c)
{
	bool room;

	(void)pthread_mutex_lock(&f->lock);
	room = f->silents < SILENT_MAX;
	if (room)
		f->silent[f->silents++] = c;
	(void)pthread_mutex_unlock(&f->lock);
	if (room)
		MHD_suspend_connection(c);
	return room ? MHD_YES : MHD_NO;
}

static char *large(void)
{
	size_t len = 17u << 20;
	char *text = malloc(len + 1);

	if (text == NULL)
		abort();
	memset(text, ' ', len);
	text[len] = '\0';
	return text;
}

static enum MHD_Result answer(struct fake_agent *f, struct MHD_Connection *c, const char *method,
			      const char *url)
{
	char *text;

	switch ((enum fake_agent_mood)atomic_load(&f->mood)) {
	case FAKE_NONSENSE:
		return reply(c, 200, strdup("\033[2J<html>\xff\xfe{{{"));
	case FAKE_OTHER:
		return reply(c, 200,
			     strdup("{\"groups\":3,\"runs\":{},\"points\":\"x\",\"site\":[]}"));
	case FAKE_SILENT:
		return stay_silent(f, c);
	case FAKE_LARGE:
		return reply(c, 200, large());
	case FAKE_SHORT:
		return cut_short(c);
	case FAKE_GOOD:
		break;
	}
	text = fixture(f, method, url,
		       MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "after"));
	if (text != NULL)
		return reply(c, 200, text);
	return reply(c, 404,
		     strdup("{\"error\":{\"code\":\"LB_ENOTFOUND\",\"message\":\"none\"}}"));
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *len, void **state)
{
	struct fake_agent *f = cls;
	static char seen;

	(void)version;
	(void)data;
	if (*state == NULL) { /* only the head so far */
		*state = &seen;
		if (strcmp(method, "POST") == 0 && strncmp(url, "/v1/runbooks", 12) != 0)
			atomic_fetch_add(&f->posts, 1);
		return MHD_YES;
	}
	if (*len > 0) {
		*len = 0;
		return MHD_YES;
	}
	return answer(f, c, method, url);
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	(void)unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 16) != 0)
		abort();
	return fd;
}

struct fake_agent *fake_agent_start(const char *socket_path, const char *dir)
{
	struct fake_agent *f = calloc(1, sizeof(*f));

	if (f == NULL)
		abort();
	f->dir = dir;
	(void)pthread_mutex_init(&f->lock, NULL);
	(void)snprintf(f->path, sizeof(f->path), "%s", socket_path);
	f->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0,
				     NULL, NULL, on_request, f, MHD_OPTION_LISTEN_SOCKET,
				     listen_on(socket_path), MHD_OPTION_END);
	if (f->daemon == NULL)
		abort();
	return f;
}

void fake_agent_mood(struct fake_agent *f, enum fake_agent_mood mood)
{
	atomic_store(&f->mood, (int)mood);
}

unsigned fake_agent_posts(struct fake_agent *f)
{
	return atomic_load(&f->posts);
}

void fake_agent_stop(struct fake_agent *f)
{
	(void)pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->silents; i++)
		MHD_resume_connection(f->silent[i]);
	(void)pthread_mutex_unlock(&f->lock);
	MHD_stop_daemon(f->daemon);
	(void)unlink(f->path);
	free(f);
}
