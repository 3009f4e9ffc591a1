{
  "algorithm": "ed25519",
  "public_key": "CXn2AhFXre6GtYPeLVD/4aL3LU2lNaYApjdlG17Yt9Q=",
  "signature": "IogZD2ZgEmP0Uwg5quKzcy5khq1vdcTDceCqMoBmHTtBZacE9y9f/ex92xrP05wpFm9khxzIpM2KI7TqfnALAA=="
}
