/* The parts of seal.h below our own conventions, visible so that tests run the RFCs' vectors. */
#ifndef SEAL_INT_H
#define SEAL_INT_H

#include <stddef.h>
#include <stdint.h>

#include "base/seal.h"

/* Pure Ed25519 over exactly @msg. */
int lb_sign_raw(const struct lb_signer *s, struct lb_sig *out, const void *msg, size_t len,
		struct lb_err *err);
int lb_sig_verify_raw(const struct lb_pubkey *key, const struct lb_sig *sig, const void *msg,
		      size_t len, struct lb_err *err);

/* RFC 5649 with a KEK of 24 or 32 bytes. @out holds the padded length + 8 (wrap), or @len bytes
 * (unwrap). */
struct lb_kwp {
	const uint8_t *kek;
	size_t kek_len;
	const uint8_t *in;
	size_t len;
	uint8_t *out;
	size_t out_len; /* result */
};
int lb_kwp_run(struct lb_kwp *w, int wrap); /* 0 or -1 */

#endif
