//! The ciphers whose keys are in the file. Upstream: `pkg/storage/value/encrypt/{aes,secretbox}`.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};

const TOO_SHORT: &str = "the stored data was shorter than the required size";
const BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_TAG: usize = 16;

/// A cipher with its key.
pub(crate) enum Cipher {
    /// AES-GCM with a random nonce, bound to the key of the object in the store.
    Gcm(Box<LessSafeKey>),
    /// AES-CBC with PKCS#7 padding. Not authenticated.
    Cbc(Box<(PaddedBlockEncryptingKey, PaddedBlockDecryptingKey)>),
    /// XSalsa20 and Poly1305. Not bound to the place of the object.
    Secretbox(Box<XSalsa20Poly1305>),
}

/// Bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "unable to read sufficient random bytes".to_owned())?;
    Ok(bytes)
}

fn unusable<E>(_: E) -> String {
    "crypto/aes: invalid key size".to_owned()
}

impl Cipher {
    pub(crate) fn gcm(key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            _ => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, key).map_err(unusable)?;
        Ok(Self::Gcm(Box::new(LessSafeKey::new(key))))
    }

    pub(crate) fn cbc(key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        let unbound = || UnboundCipherKey::new(algorithm, key).map_err(unusable);
        let encrypting = PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).map_err(unusable)?;
        let decrypting = PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).map_err(unusable)?;
        Ok(Self::Cbc(Box::new((encrypting, decrypting))))
    }

    pub(crate) fn secretbox(key: &[u8]) -> Result<Self, String> {
        let size = key.len();
        let key = <[u8; 32]>::try_from(key)
            .map_err(|_| format!("expected key size 32 for secretbox provider, got {size}"))?;
        Ok(Self::Secretbox(Box::new(XSalsa20Poly1305::new(&key.into()))))
    }

    /// Encrypts; the nonce comes first.
    pub(crate) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(key) => seal(key, plain, place),
            Self::Cbc(keys) => {
                let iv = random::<BLOCK>()?;
                let mut body = plain.to_vec();
                let context = EncryptionContext::Iv128(FixedLength::from(&iv));
                keys.0.less_safe_encrypt(&mut body, context).map_err(|_| "encryption failed".to_owned())?;
                Ok([&iv[..], &body].concat())
            }
            Self::Secretbox(key) => {
                let nonce = random::<SECRETBOX_NONCE>()?;
                let body = key.encrypt(&nonce.into(), plain).map_err(|e| e.to_string())?;
                Ok([&nonce[..], &body].concat())
            }
        }
    }

    /// Decrypts what [`Cipher::encrypt`] and upstream's server write.
    pub(crate) fn decrypt(&self, data: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(key) => open(key, data, place),
            Self::Cbc(keys) => {
                let (iv, body) = data.split_first_chunk::<BLOCK>().ok_or(TOO_SHORT)?;
                if body.len() % BLOCK != 0 {
                    return Err("the stored data is not a multiple of the block size".to_owned());
                }
                if body.is_empty() {
                    return Err("invalid PKCS7 data (empty or not padded)".to_owned());
                }
                let mut body = body.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                let plain = keys.1.decrypt(&mut body, context);
                plain.map(|p| p.to_vec()).map_err(|_| "invalid padding on input".to_owned())
            }
            Self::Secretbox(key) => {
                let (nonce, body) = data
                    .split_first_chunk::<SECRETBOX_NONCE>()
                    .filter(|(_, body)| body.len() >= SECRETBOX_TAG)
                    .ok_or(TOO_SHORT)?;
                // Upstream's words for what is not authentic.
                key.decrypt(&(*nonce).into(), body)
                    .map_err(|_| "output array was not large enough for encryption".to_owned())
            }
        }
    }
}

/// AES-GCM: nonce, ciphertext, tag.
pub(crate) fn seal(key: &LessSafeKey, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
    let nonce = random::<NONCE_LEN>()?;
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
        .map_err(|_| "encryption failed".to_owned())?;
    Ok([&nonce[..], &body].concat())
}

/// The reverse of [`seal`].
pub(crate) fn open(key: &LessSafeKey, data: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
    let (nonce, body) = data.split_first_chunk::<NONCE_LEN>().ok_or(TOO_SHORT)?;
    let mut body = body.to_vec();
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut body)
        .map_err(|_| "cipher: message authentication failed".to_owned())?;
    Ok(plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// What other implementations write (Python's `cryptography`; NaCl's own vector) is read.
    #[test]
    fn vectors() {
        let key: Vec<u8> = (0..32).collect();
        let check = |cipher: Cipher, stored: &str, plain: &[u8]| {
            assert_eq!(cipher.decrypt(&bytes(stored), b"/registry/secrets/a/b").unwrap(), plain);
        };
        check(Cipher::gcm(&key).unwrap(), GCM, b"hello secret");
        check(Cipher::cbc(&key).unwrap(), CBC, b"hello secret");
        check(Cipher::secretbox(&bytes(BOX_KEY)).unwrap(), BOX, &bytes(BOX_PLAIN));
    }

    const GCM: &str = "000102030405060708090a0b2f67ba77aac5b17eee33f2ffa4a9edae5960a5a423e857625231f818";
    const CBC: &str = "000102030405060708090a0b0c0d0e0fc4a6a9b5cd519c598560e128bb785f87";
    const BOX_KEY: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    const BOX_PLAIN: &str = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
    const BOX: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
}
