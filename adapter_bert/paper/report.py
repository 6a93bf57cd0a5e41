"""x"""
from typing import NamedTuple
class W(NamedTuple):
    done:int=0
    planned:int=0
    path:str=""
def write(e,f,r): return W()
