#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lv_int.h"

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

int sa_lv_open(virConnectPtr *out, const char *uri, struct lb_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, init_once);
	*out = virConnectOpen(uri);
	return *out != NULL ? 0 : sa_lv_fail(err, LB_EAGAIN, "connect to %s", uri);
}

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
