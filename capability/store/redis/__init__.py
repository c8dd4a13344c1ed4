"""A store in Redis or Valkey, shared by any number of machines, for those who run one already.

Every change is one script, which the server runs alone, so revisions follow each other without gaps and
nobody sees half of one. A revocation is acknowledged when it is on the server's disk, unless the URL says
otherwise. `address` reads URLs, and needs no package; `store` needs redis.
"""
