"""Tests of this node that an operator runs. `rlu selftest canary` sends marked prompts through a deployment and looks for what is left.

markers     words that occur nowhere else                   forms      every form in which one could lie somewhere
index       many needles in one pass over bytes              unpack     compressed streams, taken apart
scan        files, devices and open descriptors              places     where this machine could have written something
plants      leaks on purpose, which the search must find     image      a disk of the test's own
node        a deployment of the test's own                   caller     a client that breaks off wherever it likes
scenarios   what is sent                                     oddities   what is sent and wrong
faults      what is broken meanwhile                         exports    what is handed out on purpose
system_v    shared memory that outlives processes            canary     all of it in order
"""
