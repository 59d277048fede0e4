/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AES-256-GCM of one direction of a confidential channel.
 *
 * The key schedule is set once for each end; a chunk costs one new IV.  IVs are a random prefix and
 * the chunk's number, so that they never repeat under a key and both ends know them without a
 * message: an old or reordered chunk fails its tag.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

struct emu_crypt {
	EVP_CIPHER_CTX *seal, *open;
	uint8_t prefix[EMU_IV_BYTES - sizeof(uint64_t)];
};

int emu_crypt_new(struct emu_crypt **ret, struct cvb_err *err)
{
	struct emu_crypt *c = calloc(1, sizeof(*c));
	uint8_t key[EMU_KEY_BYTES];

	if (!c)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	c->seal = EVP_CIPHER_CTX_new();
	c->open = EVP_CIPHER_CTX_new();
	if (!c->seal || !c->open || RAND_bytes(key, sizeof(key)) != 1 ||
	    RAND_bytes(c->prefix, sizeof(c->prefix)) != 1 ||
	    EVP_EncryptInit_ex(c->seal, EVP_aes_256_gcm(), NULL, key, NULL) != 1 ||
	    EVP_DecryptInit_ex(c->open, EVP_aes_256_gcm(), NULL, key, NULL) != 1) {
		OPENSSL_cleanse(key, sizeof(key));
		emu_crypt_free(c);
		return cvb_err_set(err, -EIO, "OpenSSL cannot set up AES-256-GCM");
	}
	OPENSSL_cleanse(key, sizeof(key));
	*ret = c;
	return 0;
}

struct emu_crypt *emu_crypt_free(struct emu_crypt *c)
{
	if (!c)
		return NULL;
	EVP_CIPHER_CTX_free(c->seal);
	EVP_CIPHER_CTX_free(c->open);
	free(c);
	return NULL;
}

static void make_iv(const struct emu_crypt *c, uint64_t number, uint8_t iv[EMU_IV_BYTES])
{
	memcpy(iv, c->prefix, sizeof(c->prefix));
	for (size_t i = 0; i < sizeof(number); i++)
		iv[EMU_IV_BYTES - 1 - i] = (uint8_t)(number >> (8 * i));
}

int emu_seal(struct emu_crypt *c, uint64_t number, uint8_t *dst, uint8_t *tag, const uint8_t *src,
	     size_t bytes)
{
	uint8_t iv[EMU_IV_BYTES], last[EMU_TAG_BYTES];
	int n, m;

	make_iv(c, number, iv);
	if (EVP_EncryptInit_ex(c->seal, NULL, NULL, NULL, iv) != 1 ||
	    EVP_EncryptUpdate(c->seal, dst, &n, src, (int)bytes) != 1 ||
	    EVP_EncryptFinal_ex(c->seal, last, &m) != 1 || (size_t)n != bytes || m != 0 ||
	    EVP_CIPHER_CTX_ctrl(c->seal, EVP_CTRL_AEAD_GET_TAG, EMU_TAG_BYTES, tag) != 1)
		return -EIO;
	return 0;
}

int emu_open(struct emu_crypt *c, uint64_t number, uint8_t *dst, const uint8_t *tag,
	     const uint8_t *src, size_t bytes)
{
	uint8_t iv[EMU_IV_BYTES], last[EMU_TAG_BYTES], want[EMU_TAG_BYTES];
	int n, m, r = 0;

	make_iv(c, number, iv);
	memcpy(want, tag, sizeof(want));
	if (EVP_DecryptInit_ex(c->open, NULL, NULL, NULL, iv) != 1 ||
	    EVP_DecryptUpdate(c->open, dst, &n, src, (int)bytes) != 1 || (size_t)n != bytes ||
	    EVP_CIPHER_CTX_ctrl(c->open, EVP_CTRL_AEAD_SET_TAG, EMU_TAG_BYTES, want) != 1)
		r = -EIO;
	else if (EVP_DecryptFinal_ex(c->open, last, &m) != 1)
		r = -EBADMSG;
	if (r < 0) /* GCM decrypts before it knows: nobody may use what is not authentic */
		memset(dst, 0, bytes);
	return r;
}
