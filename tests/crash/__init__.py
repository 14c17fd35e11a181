"""The crash matrix: a batch is killed everywhere, gone on with until it is done, and the other side's books are read.

``python -m tests.crash`` runs all of it, the tests here some of each kind.

    nursery   a process that is loaded already, and forks one child for each life of a batch
    lives     begins lives, kills them, and says how they ended
    steps     the places at which a life can end itself: what SQLite and the system are asked to do
    cases     what a batch is told to do, and what the gateway does meanwhile
    trial     one batch: life after life until it is done
    evidence  what the books and the files say of it then, as sentences about what must not be
    removals  defences to take away, without which there have to be such sentences
"""
