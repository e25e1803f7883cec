import streamlit

if True
    pass
