#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "lv_int.h"

#define OPEN_NS     UINT64_C(15000000000)
#define OPENERS_MAX 8u

static void drop_message(void *arg, virErrorPtr e)
{
	(void)arg;
	(void)e;
}

/* libvirt prints every error on stderr unless it is told not to; ours carry the text. */
static void init_once(void)
{
	(void)virInitialize();
	virSetErrorFunc(NULL, drop_message);
	xmlInitParser();
}

/* ---- connecting ---- */

/*
 * virConnectOpen() waits without a limit for a daemon that hangs, and with it would every worker of
 * ours that asks for a machine. So a thread of its own opens, and who asked waits for a while. A
 * thread that was given up stays until the daemon answers or ends, at most OPENERS_MAX of them.
 */
struct opening {
	char *uri;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t done;
	bool ended, given_up;
	virConnectPtr conn;
	int rc;
	struct lb_err err;
};

static _Atomic unsigned *given_up_count(void)
{
	static _Atomic unsigned n;

	return &n;
}

static void opening_free(struct opening *o)
{
	(void)pthread_cond_destroy(&o->done);
	(void)pthread_mutex_destroy(&o->lock);
	free(o->uri);
	free(o);
}

static struct opening *opening_new(const char *uri)
{
	struct opening *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->uri = strdup(uri);
	if (o->uri == NULL) {
		free(o);
		return NULL;
	}
	(void)pthread_mutex_init(&o->lock, NULL);
	lb_cond_init(&o->done);
	return o;
}

static void *open_main(void *arg)
{
	struct opening *o = arg;
	struct lb_err err = {0};
	virConnectPtr conn = virConnectOpen(o->uri);
	int rc = conn != NULL ? 0 : sa_lv_fail(&err, LB_EAGAIN, "connect to %s", o->uri);
	bool given_up;

	(void)pthread_mutex_lock(&o->lock);
	o->conn = conn;
	o->rc = rc;
	o->err = err;
	o->ended = true;
	given_up = o->given_up;
	(void)pthread_cond_signal(&o->done);
	(void)pthread_mutex_unlock(&o->lock);
	if (!given_up)
		return NULL;
	if (conn != NULL)
		(void)virConnectClose(conn);
	opening_free(o);
	(void)atomic_fetch_sub(given_up_count(), 1);
	return NULL;
}

/* False: it was given up, and belongs to its thread. */
static bool await(struct opening *o, uint64_t limit_ns)
{
	struct timespec until = lb_cond_deadline(limit_ns);
	bool ended;

	(void)pthread_mutex_lock(&o->lock);
	while (!o->ended && pthread_cond_timedwait(&o->done, &o->lock, &until) == 0)
		continue;
	ended = o->ended;
	o->given_up = !ended;
	if (!ended)
		(void)atomic_fetch_add(given_up_count(), 1);
	(void)pthread_mutex_unlock(&o->lock);
	return ended;
}

int sa_lv_open_within(virConnectPtr *out, const char *uri, uint64_t limit_ns, struct lb_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct opening *o;
	pthread_t thread;
	int rc;

	*out = NULL;
	(void)pthread_once(&once, init_once);
	if (atomic_load(given_up_count()) >= OPENERS_MAX)
		return lb_err_set(
			err, LB_EAGAIN, 0,
			"connect to %s: libvirtd hangs; %u connections wait for it already", uri,
			OPENERS_MAX);
	o = opening_new(uri);
	if (o == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "connect to %s", uri);
	rc = lb_thread_start(&thread, open_main, o, "a connection", err);
	if (rc != 0) {
		opening_free(o);
		return rc;
	}
	if (!await(o, limit_ns)) {
		(void)pthread_detach(thread);
		return lb_err_set(err, LB_EAGAIN, 0,
				  "connect to %s: libvirtd does not answer (does it hang?)", uri);
	}
	(void)pthread_join(thread, NULL);
	rc = o->rc;
	*out = o->conn;
	if (rc != 0 && err != NULL)
		*err = o->err;
	opening_free(o);
	return rc;
}

int sa_lv_open(virConnectPtr *out, const char *uri, struct lb_err *err)
{
	return sa_lv_open_within(out, uri, OPEN_NS, err);
}

/* ---- errors and XML ---- */

int sa_lv_fail(struct lb_err *err, enum lb_code code, const char *fmt, ...)
{
	const virError *e = virGetLastError();
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	if (e != NULL && e->code == VIR_ERR_NO_DOMAIN)
		code = LB_ENOTFOUND;
	return lb_err_set(err, code, 0, "%s: %.180s", what,
			  e != NULL && e->message != NULL ? e->message : "no message");
}

static void drop_xml_message(void *arg, xmlErrorPtr e)
{
	(void)arg;
	(void)e;
}

int sa_xml_parse(xmlDocPtr *out, const char *text, const char *what, struct lb_err *err)
{
	size_t len = strnlen(text, SA_LV_XML_MAX + 1);
	xmlParserCtxtPtr ctx;
	xmlDocPtr doc;
	int rc = 0;

	if (len > SA_LV_XML_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "%s is over 1 MiB", what);
	ctx = xmlNewParserCtxt();
	if (ctx == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "XML parser");
	xmlSetStructuredErrorFunc(ctx, drop_xml_message);
	doc = xmlCtxtReadMemory(ctx, text, (int)len, NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
					XML_PARSE_NOBLANKS);
	if (doc == NULL)
		rc = lb_err_set(err, LB_EINPUT, 0, "%s, line %d: not XML: %.100s", what,
				ctx->lastError.line,
				ctx->lastError.message != NULL ? ctx->lastError.message : "");
	else if (doc->intSubset != NULL || xmlDocGetRootElement(doc) == NULL)
		rc = lb_err_set(err, LB_EINPUT, 0, "%s has a document type or no element", what);
	xmlFreeParserCtxt(ctx);
	if (rc != 0 && doc != NULL)
		xmlFreeDoc(doc);
	else if (rc == 0)
		*out = doc;
	return rc;
}

static xmlNodePtr find(xmlNodePtr n, const char *name)
{
	while (n != NULL &&
	       (n->type != XML_ELEMENT_NODE || strcmp((const char *)n->name, name) != 0))
		n = n->next;
	return n;
}

xmlNodePtr sa_xml_child(xmlNodePtr n, const char *name)
{
	return n != NULL ? find(n->children, name) : NULL;
}

xmlNodePtr sa_xml_next(xmlNodePtr n)
{
	return find(n->next, (const char *)n->name);
}

static const char *take(xmlChar *value, char *out, size_t len)
{
	out[0] = '\0';
	if (value != NULL && strlen((const char *)value) < len)
		memcpy(out, value, strlen((const char *)value) + 1);
	xmlFree(value);
	return out;
}

const char *sa_xml_attr(xmlNodePtr n, const char *name, char *out, size_t len)
{
	return take(n != NULL ? xmlGetProp(n, (const xmlChar *)name) : NULL, out, len);
}

const char *sa_xml_text(xmlNodePtr n, char *out, size_t len)
{
	return take(n != NULL ? xmlNodeGetContent(n) : NULL, out, len);
}
