/*
 * tests/lib/testca.h - a deployment CA for tests: makes it and its certificates as PEM files in a
 * directory. What goes wrong here is printed and aborts: a test without its CA is no test.
 */
#ifndef TESTS_TESTCA_H
#define TESTS_TESTCA_H

#include <stdint.h>

#include "base/id.h"

struct testca;

/* Make a CA and write "@dir/@name.pem". */
struct testca *testca_create(const char *dir, const char *name);
void testca_destroy(struct testca *ca);
/* Write "@dir/@name.pem" and "@dir/@name.key" for @site of @deployment; valid from @from_s to @to_s
 * seconds after now (negative: before). @site NULL: a certificate that names no site. */
void testca_issue(const struct testca *ca, const char *name, const struct lb_id *deployment,
		  const struct lb_id *site, int64_t from_s, int64_t to_s);

#endif
