/*
 * What enrolment reads from strangers; the first byte says which. 0: a request, and its CSR. 1: an
 * answer, and its certificates. Else: a token's text. What must hold: whatever is accepted encodes
 * to the same bytes again, so there is one way to write each message.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "enrol_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(const uint8_t *p, size_t len)
{
	static struct sa_enrol_request r;
	static uint8_t again[SA_ENROL_FRAME_MAX];
	static const uint8_t exporter[SA_EXPORTER_BYTES];
	const struct lb_id secret = {.b = {1}};
	EVP_PKEY *key = NULL;
	size_t n = 0;

	if (sa_enrol_request_decode(&r, p, len, NULL) != 0)
		return;
	LB_ASSERT(r.covered_bytes + sizeof(r.mac.b) == len);
	LB_ASSERT(sa_enrol_request_encode(again, sizeof(again), &n, &r, &secret, exporter, NULL) ==
		  0);
	LB_ASSERT(n == len && memcmp(again, p, r.covered_bytes) == 0);
	LB_ASSERT(sa_enrol_request_decode(&r, again, n, NULL) == 0);
	LB_ASSERT(sa_enrol_request_is_of(&r, again, &secret, exporter));
	if (sa_x509_request_read(&key, r.csr.b, r.csr.len, r.name, NULL) == 0)
		LB_ASSERT(EVP_PKEY_is_a(key, "ED25519"));
	EVP_PKEY_free(key);
	LB_ASSERT(ERR_peek_error() == 0);
}

static void certificate(const struct sa_der *d)
{
	X509 *c = NULL;
	struct lb_hash h;

	if (sa_x509_of_der(&c, d->b, d->len, NULL) == 0)
		LB_ASSERT(sa_x509_hash(&h, c, NULL) == 0);
	X509_free(c);
	LB_ASSERT(ERR_peek_error() == 0);
}

static void answer(const uint8_t *p, size_t len)
{
	static struct sa_enrol_answer a;
	static uint8_t again[SA_ENROL_FRAME_MAX];
	size_t n = 0;

	memset(&a, 0, sizeof(a));
	if (sa_enrol_answer_decode(&a, p, len, NULL) != 0)
		return;
	LB_ASSERT(sa_enrol_answer_encode(again, sizeof(again), &n, &a, NULL) == 0);
	LB_ASSERT(n == len && memcmp(again, p, len) == 0);
	if (a.refusal[0] != '\0')
		return;
	certificate(&a.ca);
	certificate(&a.cert);
}

static void token(const uint8_t *p, size_t len)
{
	struct sa_token t, same;
	char again[SA_TOKEN_TEXT_BYTES];
	char *text = malloc(len + 1);

	LB_ASSERT(text != NULL);
	if (len != 0)
		memcpy(text, p, len);
	text[len] = '\0';
	if (sa_token_parse(&t, text, NULL) == 0) {
		(void)sa_token_text(&t, again, sizeof(again));
		LB_ASSERT(sa_token_parse(&same, again, NULL) == 0);
		LB_ASSERT(lb_id_equal(&t.secret, &same.secret) && lb_hash_equal(&t.ca, &same.ca));
		LB_ASSERT(t.addr.port == same.addr.port &&
			  strcmp(t.addr.host, same.addr.host) == 0);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] == 0)
		request(data + 1, size - 1);
	else if (data[0] == 1)
		answer(data + 1, size - 1);
	else
		token(data + 1, size - 1);
	return 0;
}
