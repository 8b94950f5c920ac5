/*
 * tls_int.h - what link.c needs of the TLS configuration. Thread: any, after create.
 */
#ifndef REPLICATOR_TLS_INT_H
#define REPLICATOR_TLS_INT_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/id.h"

struct rep_tls;

/* What the verify callback found out about one connection; set as the SSL's app data. */
struct rep_tls_peer {
	const struct rep_tls *tls;
	bool known;
	struct lb_id site;
	struct lb_err err; /* why the peer's certificate was refused; code 0: it was not */
};

/* A new connection's SSL. *@out is the caller's: SSL_free(). @peer outlives it. */
int rep_tls_new(SSL **out, struct rep_tls *t, struct rep_tls_peer *peer, struct lb_err *err);
bool rep_tls_is_server(const struct rep_tls *t);
/* Say what OpenSSL's error queue holds, and clear it. @what: what we tried. */
int rep_tls_error(struct lb_err *err, const struct rep_tls_peer *peer, const char *what);

#endif
