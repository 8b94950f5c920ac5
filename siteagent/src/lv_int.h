/*
 * siteagent/src/lv_int.h - what the libvirt source and the libvirt boot driver share: connections,
 * errors as ours, and XML that is read without trusting it (bounded, no DTD, no entities, no
 * network).
 */
#ifndef SITEAGENT_LV_INT_H
#define SITEAGENT_LV_INT_H

#include <libvirt/libvirt.h>
#include <libxml/tree.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
	SA_LV_XML_MAX = 1024 * 1024
};

/* Errors: LB_EAGAIN (not reachable, or libvirtd hangs: it has 15 s to answer), LB_ENOMEM. */
int sa_lv_open(virConnectPtr *out, const char *uri, struct lb_err *err);
/* The same with another limit. */
int sa_lv_open_within(virConnectPtr *out, const char *uri, uint64_t limit_ns, struct lb_err *err);
/* Set @err from libvirt's last error of this thread: LB_ENOTFOUND for a domain that is not there,
 * else @code. */
int sa_lv_fail(struct lb_err *err, enum lb_code code, const char *fmt, ...) LB_PRINTF(3, 4);

/* Parse @text. *out is the caller's: xmlFreeDoc(). Errors: LB_EINPUT. */
int sa_xml_parse(xmlDocPtr *out, const char *text, const char *what, struct lb_err *err);
/* The first child element of @n named @name, or NULL; @n NULL gives NULL. */
xmlNodePtr sa_xml_child(xmlNodePtr n, const char *name);
/* The next sibling element with the same name. */
xmlNodePtr sa_xml_next(xmlNodePtr n);
/* Attribute @name of @n into @out, "" when it is missing or does not fit. Returns @out. */
const char *sa_xml_attr(xmlNodePtr n, const char *name, char *out, size_t len);
/* Text content of @n likewise. */
const char *sa_xml_text(xmlNodePtr n, char *out, size_t len);

#endif
