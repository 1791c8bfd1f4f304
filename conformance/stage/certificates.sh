#!/usr/bin/env bash
# Client certificates for the clients that prove themselves with one (RFC 8705), by openssl:
#   clients    clients-ca.pem, and partner.pem of that authority for dns:partner.example; pinned.pem,
#              which signed itself; stray.pem, which nobody knows
#   documents  documents.pem for https://tools.example, of the authority of the server's data folder
#   certificates.sh FOLDER clients|documents
set -euo pipefail
cd "$1"

curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
own() { # NAME SUBJECT: signed by itself
  openssl req -x509 "${curve[@]}" -days 2 -subj "/CN=$2" -keyout "$1.key" -out "$1.pem" 2> /dev/null
}
signed() { # NAME HOST USE CA CA-KEY
  openssl req -new "${curve[@]}" -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2> /dev/null
  printf 'subjectAltName=DNS:%s\nextendedKeyUsage=%s\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n' "$2" "$3" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$4" -CAkey "$5" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem" 2> /dev/null
}

case $2 in
  clients)
    own clients-ca "Clients of the conformance run"
    signed partner partner.example clientAuth clients-ca.pem clients-ca.key
    own pinned pinned.example
    own stray partner.example
    ;;
  documents)
    signed documents tools.example serverAuth data/ca.pem data/ca-key.pem
    ;;
esac
